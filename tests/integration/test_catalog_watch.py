"""Watching real files with the operating system's watcher.

`poll_seconds` is an hour here, so a version that comes in time comes from the watcher; a test of polling says so.
"""

import asyncio
import os
import threading
from contextlib import aclosing, asynccontextmanager

import pytest

from torghut_core.catalog import load, read
from torghut_core.catalog.watch import CatalogWatch
from torghut_core.errors import CatalogError

SOON = 5.0
"""Seconds: measured are 0.2; a poll would take an hour."""

QUIET = 0.5
"""Seconds in which nothing may come; measured, a change would come in 0.2."""


def text(number):
    return f"version: 1\nrisk: [{{use: rule-{number}}}]\n"


def rules(version):
    assert not isinstance(version, CatalogError), version
    return [entry.use for entry in load(version).risk]


class Mount:
    """A directory as the kubelet mounts a ConfigMap: files are links into ``..data``, a link to a revision."""

    def __init__(self, directory):
        self.directory = directory
        self.revision = 0

    def swap(self, **files):
        self.revision += 1
        directory = self.directory / f"..2026_01_05_14_30_00.{self.revision}"
        directory.mkdir(parents=True)
        for name, content in files.items():
            (directory / f"{name}.yaml").write_text(content)
        old = (self.directory / "..data").readlink() if self.revision > 1 else None
        (self.directory / "..data_tmp").symlink_to(directory.name)
        (self.directory / "..data_tmp").rename(self.directory / "..data")
        for name in files:
            link = self.directory / f"{name}.yaml"
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}.yaml")
        for link in self.directory.glob("[!.]*.yaml"):
            if link.stem not in files:
                link.unlink()
        if old:
            for file in (self.directory / old).iterdir():
                file.unlink()
            (self.directory / old).rmdir()


@asynccontextmanager
async def watching(path, **options):
    """A function that waits for the next version; the first, what is there at the start, has been taken."""
    watch = CatalogWatch(path, **{"poll_seconds": 3600.0} | options)
    async with aclosing(watch.versions()) as versions:

        async def following():
            return await asyncio.wait_for(anext(versions), SOON)

        await following()
        yield following


async def assert_quiet(following):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(following(), QUIET)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_text(text(0))
    return path


@pytest.fixture
def mount(tmp_path):
    mount = Mount(tmp_path / "mount")
    mount.swap(catalog=text(0))
    return mount


@pytest.mark.parametrize("is_file", [True, False], ids=["path of the file", "path of the folder"])
def test_every_swap_of_a_config_map_is_a_version(mount, is_file):
    """Five updates of a ConfigMap are five versions, whichever path names it."""

    async def script():
        path = mount.directory / "catalog.yaml" if is_file else mount.directory
        async with watching(path) as following:
            for number in range(1, 6):
                mount.swap(catalog=text(number))
                assert rules(await following()) == [f"rule-{number}"]

    asyncio.run(script())


def test_same_content_mounted_again_is_not_told(mount):
    """An update of a ConfigMap that leaves the catalog as it is is no version."""

    async def script():
        async with watching(mount.directory) as following:
            mount.swap(catalog=text(1))
            assert rules(await following()) == ["rule-1"]
            mount.swap(catalog=text(1))
            await assert_quiet(following)

    asyncio.run(script())


def test_files_of_a_config_map_come_and_go(mount):
    """A folder of several files is one catalog: a file that is added or taken out is a version."""

    async def script():
        async with watching(mount.directory) as following:
            mount.swap(catalog=text(0), more="risk: [{use: more}]\n")
            assert rules(await following()) == ["rule-0", "more"]
            mount.swap(catalog=text(0))
            assert rules(await following()) == ["rule-0"]

    asyncio.run(script())


def test_file_of_a_plain_folder_comes_and_goes(file):
    """The same without a ConfigMap; a file that is no catalog is none."""

    async def script():
        async with watching(file.parent) as following:
            (file.parent / "more.yaml").write_text("risk: [{use: more}]\n")
            assert rules(await following()) == ["rule-0", "more"]
            (file.parent / "more.yaml").unlink()
            assert rules(await following()) == ["rule-0"]
            (file.parent / "notes.txt").write_text("buy low")
            await assert_quiet(following)

    asyncio.run(script())


def test_edit_in_place_is_a_version(file):
    """Each save of the file is a version."""

    async def script():
        async with watching(file) as following:
            for number in range(1, 4):
                file.write_text(text(number))
                assert rules(await following()) == [f"rule-{number}"]

    asyncio.run(script())


def test_rename_over_the_file_is_a_version(file):
    """Each new file that is renamed over the old one, as careful editors do, is a version."""

    async def script():
        async with watching(file) as following:
            for number in range(1, 4):
                other = file.with_suffix(".tmp")
                other.write_text(text(number))
                other.replace(file)
                assert rules(await following()) == [f"rule-{number}"]

    asyncio.run(script())


def test_truncated_file_is_not_told_when_it_is_written_at_once(file):
    """A save that truncates the file and then writes it is one version."""

    async def script():
        async with watching(file, settle_seconds=0.5) as following:
            with file.open("w") as stream:
                await asyncio.sleep(0.2)  # longer than the watcher takes to tell of the truncation
                stream.write(text(1))
            assert rules(await following()) == ["rule-1"]
            await assert_quiet(following)

    asyncio.run(script())


def test_file_that_is_empty_whenever_it_is_read_is_still_being_written(file):
    """Two readings that find the file empty, with writes between them, have found no file at rest."""
    readings = []

    def read_between_writes(path):
        readings.append(path)
        if 1 < len(readings) <= 8:
            file.write_text(text(len(readings)))
            file.write_text("")
        elif len(readings) == 9:
            file.write_text(text(9))
        return read(path)

    async def script():
        async with aclosing(CatalogWatch(file, poll_seconds=0.1, read=read_between_writes).versions()) as versions:
            assert rules(await asyncio.wait_for(anext(versions), SOON)) == ["rule-9"]

    asyncio.run(script())


def test_hundred_writes_in_a_second_are_few_versions(file):
    """Writes in quick succession are very few versions, of which the last is the last content."""

    async def script():
        async with watching(file) as following:

            async def write():
                for number in range(100):
                    file.write_text(text(number))
                    await asyncio.sleep(0.01)

            writer = asyncio.create_task(write())
            seen = []
            while seen[-1:] != [["rule-99"]]:
                seen.append(rules(await following()))
            await writer
            assert len(seen) <= 5
            await assert_quiet(following)

    asyncio.run(script())


def test_touch_is_not_told(file):
    """Another time of modification is no other content."""

    async def script():
        async with watching(file) as following:
            file.touch()
            os.utime(file, (0, 0))
            await assert_quiet(following)

    asyncio.run(script())


def test_deleted_file_is_an_error_until_it_is_back(file):
    """A deleted file is one error, and the same content is a version again when the file is back."""

    async def script():
        async with watching(file) as following:
            file.unlink()
            error = await following()
            assert isinstance(error, CatalogError)
            assert "there is no such file" in str(error)
            file.write_text(text(0))
            assert rules(await following()) == ["rule-0"]

    asyncio.run(script())


def test_file_that_is_not_utf8_is_an_error(file):
    """Bytes that are not UTF-8 are an error with their place, and a good file clears it."""

    async def script():
        async with watching(file) as following:
            file.write_bytes(b"version: 1\nmode: \xff\n")
            error = await following()
            assert isinstance(error, CatalogError)
            assert f"{file}:2:7" in str(error)
            file.write_text(text(1))
            assert rules(await following()) == ["rule-1"]

    asyncio.run(script())


def test_catalog_below_a_hidden_directory_is_watched(tmp_path):
    """No directory is left out for its name, such as `.git`, which watchers for programmers ignore."""

    async def script():
        file = tmp_path / ".git" / "catalog.yaml"
        file.parent.mkdir()
        file.write_text(text(0))
        async with watching(file) as following:
            file.write_text(text(1))
            assert rules(await following()) == ["rule-1"]

    asyncio.run(script())


def test_directory_that_is_not_there_yet_is_polled(tmp_path):
    """Without a directory there is nothing to watch; the poll finds it when it appears, and then it is watched."""

    async def script():
        file = tmp_path / "later" / "catalog.yaml"
        watch = CatalogWatch(file, poll_seconds=0.1)
        async with aclosing(watch.versions()) as versions:
            assert isinstance(await asyncio.wait_for(anext(versions), SOON), CatalogError)
            assert watch.is_polling
            file.parent.mkdir()
            file.write_text(text(1))
            assert rules(await asyncio.wait_for(anext(versions), SOON)) == ["rule-1"]

    asyncio.run(script())


def test_directory_that_is_exchanged_is_watched_again(tmp_path):
    """Where the directory itself is a link that is exchanged, as git-sync does, the poll finds each change."""

    async def script():
        for number in (0, 1, 2):
            (tmp_path / f"revision-{number}").mkdir()
            (tmp_path / f"revision-{number}" / "catalog.yaml").write_text(text(number))
        link = tmp_path / "current"
        link.symlink_to("revision-0")
        async with watching(link / "catalog.yaml", poll_seconds=0.2) as following:
            for number in (1, 2):
                (tmp_path / "next").symlink_to(f"revision-{number}")
                (tmp_path / "next").rename(link)
                assert rules(await following()) == [f"rule-{number}"]

    asyncio.run(script())


def test_no_thread_is_left_behind(file):
    """When the loop of a canceled watch has ended, so have the watcher's threads."""
    before = set(threading.enumerate())

    async def script():
        is_watching = asyncio.Event()

        async def watch():
            async for _ in CatalogWatch(file, poll_seconds=3600.0).versions():
                is_watching.set()

        task = asyncio.create_task(watch())
        await asyncio.wait_for(is_watching.wait(), SOON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(script())
    for thread in set(threading.enumerate()) - before:
        thread.join(SOON)
        assert not thread.is_alive()
