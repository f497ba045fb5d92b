"""When a watched catalog counts as changed: a fake watcher, a fake file and a fake clock; test_catalog_watch in
`tests/integration` has the real ones."""

import asyncio
import selectors
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from torghut_core.catalog.watch import PATIENCE, CatalogWatch
from torghut_core.errors import CatalogError, Problem

POLL = 10.0
SETTLE = 0.05


class ClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once when every task waits; threads are not used."""

    def __init__(self):
        self.now = 0.0
        super().__init__(selectors.SelectSelector())
        self._selector.select = self.skip

    def skip(self, timeout):
        assert timeout is not None, "everybody waits for something that will never come"
        self.now += timeout
        return []

    def time(self):
        return self.now

    def run_in_executor(self, executor, function, *arguments):
        future = self.create_future()
        future.set_result(function(*arguments))
        return future


class File:
    """A catalog that a test writes, and a watcher that reports it."""

    def __init__(self, text="a"):
        self.text = text
        self.started = 0
        self.reads = 0
        self.hints = asyncio.Queue()
        self.is_deaf = False

    def read(self, path):
        self.reads += 1
        if self.text is None:
            raise CatalogError([Problem(str(path), 0, 0, "", "there is no such file or folder")])
        return {str(path): self.text}

    def write(self, text):
        self.text = text
        if not self.is_deaf:
            self.hints.put_nowait({("modified", "..data")})

    async def changes(self, path):
        self.started += 1
        while True:
            hint = await self.hints.get()
            if isinstance(hint, Exception):
                raise hint
            if hint is None:
                return
            yield hint

    def watch(self, changes=None):
        return CatalogWatch(
            "catalog.yaml",
            poll_seconds=POLL,
            settle_seconds=SETTLE,
            changes=changes or self.changes,
            read=self.read,
        )


def run(script):
    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        return runner.run(script())


async def told(watch, script, seconds=10 * POLL):
    """What is yielded, with its time, while `script` runs and until `seconds`: texts, and "error"."""
    seen = []

    async def listen():
        async for version in watch.versions():
            text = "error" if isinstance(version, CatalogError) else version["catalog.yaml"]
            seen.append((text, asyncio.get_running_loop().time()))

    task = asyncio.create_task(listen())
    await asyncio.sleep(1)  # what is there at the start has been told
    await script()
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])
    return seen


def texts(seen):
    return [text for text, _ in seen]


async def nothing():
    pass


def test_content_at_the_start_is_the_first_version():
    """The content at the start is yielded first, so that no change is lost between loading a catalog and watching it."""

    async def script():
        assert texts(await told(File().watch(), nothing)) == ["a"]

    run(script)


def test_change_is_yielded_once_it_has_settled():
    """A hint leads to a reading at once, and the new content is yielded once it has stayed for the settle time."""

    async def script():
        file = File()

        async def change():
            file.write("b")

        [_, (text, at)] = await told(file.watch(), change)
        assert text == "b"
        assert at == pytest.approx(1 + SETTLE)

    run(script)


def test_every_swap_is_a_version():
    """Changes that keep their distance are all told, in order; the watcher is not started anew for it."""

    async def script():
        file = File()

        async def swaps():
            for text in "bcdef":
                file.write(text)
                await asyncio.sleep(1)

        assert texts(await told(file.watch(), swaps)) == [*"abcdef"]
        assert file.started == 1

    run(script)


def test_hundred_writes_in_a_second_are_one_version():
    """While the content keeps changing nothing is reported; then the last one is."""

    async def script():
        file = File()

        async def writes():
            for number in range(100):
                file.write(f"{number}")
                await asyncio.sleep(0.01)

        assert texts(await told(file.watch(), writes)) == ["a", "99"]

    run(script)


def test_endless_writing_is_reported_at_intervals():
    """A file that never stops changing is still reported, again and again."""

    async def script():
        file = File()

        async def writes():
            for number in range(2 * PATIENCE):
                file.write(f"{number}")
                await asyncio.sleep(SETTLE)

        seen = await told(file.watch(), writes)
        assert 3 <= len(seen) <= 5
        assert texts(seen)[-1] == f"{2 * PATIENCE - 1}"

    run(script)


def test_half_written_file_is_not_reported():
    """An editor that truncates the file and then writes it has saved one version, which is not empty."""

    async def script():
        file = File()

        async def save():
            file.write("")
            await asyncio.sleep(SETTLE / 2)
            file.write("b")

        assert texts(await told(file.watch(), save)) == ["a", "b"]

    run(script)


def test_file_that_stays_empty_is_reported():
    """An empty file is a content like any other once it has stayed: it is for the catalog to refuse."""

    async def script():
        file = File()

        async def save():
            file.write("")
            await asyncio.sleep(2 * SETTLE)
            file.write("b")

        assert texts(await told(file.watch(), save)) == ["a", "", "b"]

    run(script)


def test_change_that_is_taken_back_at_once_is_none():
    """A content that is as before when it has settled is no version."""

    async def script():
        file = File()

        async def save():
            file.write("b")
            await asyncio.sleep(SETTLE / 2)
            file.write("a")

        assert texts(await told(file.watch(), save)) == ["a"]

    run(script)


def test_hint_without_change_is_no_version():
    """A touch, a new mount of the same content, or another file of the directory only leads to a reading."""

    async def script():
        file = File()

        async def touches():
            for _ in range(3):
                before = file.reads
                file.write("a")
                await asyncio.sleep(1)
                assert file.reads == before + 1

        assert texts(await told(file.watch(), touches)) == ["a"]

    run(script)


def test_unreadable_catalog_is_one_error():
    """A file that is deleted is reported once, however often it is looked for."""

    async def script():
        file = File()

        async def delete():
            for _ in range(3):
                file.write(None)
                await asyncio.sleep(1)

        assert texts(await told(file.watch(), delete)) == ["a", "error"]

    run(script)


@pytest.mark.parametrize("text", ["a", "b"])
def test_catalog_that_comes_back_is_reported(text):
    """After an error the catalog is reported also where it is what it was, so that a degraded status can clear."""

    async def script():
        file = File()

        async def delete():
            file.write(None)
            await asyncio.sleep(1)
            file.write(text)

        assert texts(await told(file.watch(), delete)) == ["a", "error", text]

    run(script)


def test_file_that_is_replaced_by_delete_and_create_is_one_version():
    """A file that is missing for less than the settle time was never gone."""

    async def script():
        file = File()

        async def save():
            file.write(None)
            await asyncio.sleep(SETTLE / 2)
            file.write("b")

        assert texts(await told(file.watch(), save)) == ["a", "b"]

    run(script)


def test_other_reason_is_another_error():
    """A catalog that cannot be read for another reason than before is reported with that."""

    async def script():
        reasons = ["first", "second", "second"]

        def read(path):
            raise CatalogError([Problem(str(path), 0, 0, "", reasons[0])])

        watch = CatalogWatch("c.yaml", poll_seconds=POLL, changes=File().changes, read=read)
        seen = []
        async with aclosing(watch.versions()) as versions:
            async for version in versions:
                seen.append(str(version))
                reasons.pop(0)
                if len(seen) == 2:
                    break
        assert seen == ["c.yaml: first", "c.yaml: second"]

    run(script)


# ------------------------------------------------------------------------------------------------- without a watcher


@pytest.mark.parametrize("death", [None, OSError("inotify watch limit reached")], ids=["ends", "raises"])
def test_polling_takes_over_from_a_dead_watcher(death):
    """When the watcher ends or raises, a change is found within `poll_seconds`; both an attribute and one log line say so."""

    async def script():
        file = File()
        watch = file.watch()
        assert not watch.is_polling

        async def die():
            file.hints.put_nowait(death)
            await asyncio.sleep(1)
            assert watch.is_polling
            file.is_deaf = True
            file.text = "b"

        [_, (text, at)] = await told(watch, die)
        assert text == "b"
        assert at <= 2 + POLL + SETTLE
        assert watch.is_polling

    with capture_logs() as logs:
        run(script)
    [line] = [line for line in logs if line["log_level"] == "warning"]
    assert line["event"] == "catalog watcher failed, polling"
    assert line["reason"] == ("it ended" if death is None else f"OSError: {death}")


def test_missing_watcher_is_polling():
    """Where there is no watcher at all, the catalog is polled."""

    def missing(path):
        raise ImportError("No module named 'watchfiles'")

    async def script():
        file = File()
        watch = file.watch(missing)

        async def change():
            file.text = "b"

        assert texts(await told(watch, change)) == ["a", "b"]
        assert watch.is_polling

    run(script)


def test_dead_watcher_is_started_again():
    """A watcher that works again is used again, and the attribute says so once it has reported a change."""

    async def script():
        file = File()
        watch = file.watch()

        async def die():
            file.hints.put_nowait(OSError("no"))
            await asyncio.sleep(POLL + 1)
            assert (file.started, watch.is_polling) == (2, True)
            file.write("b")
            await asyncio.sleep(2 * SETTLE)
            assert not watch.is_polling

        assert texts(await told(watch, die)) == ["a", "b"]

    run(script)


def test_watcher_that_misses_a_change_is_started_again():
    """A change that only the poll finds means that the watcher missed it: it is started again, and that is visible."""

    async def script():
        file = File()
        watch = file.watch()

        async def miss():
            file.text = "b"
            await asyncio.sleep(POLL + 1)
            assert (file.started, watch.is_polling) == (2, True)
            file.write("c")

        assert texts(await told(watch, miss)) == ["a", "b", "c"]
        assert not watch.is_polling

    run(script)


def test_quiet_watcher_is_not_deaf():
    """Polls that find nothing new are no reason to doubt the watcher."""

    async def script():
        file = File()
        watch = file.watch()
        await told(watch, nothing)
        assert file.reads >= 10
        assert (file.started, watch.is_polling) == (1, False)

    run(script)


def test_dead_watcher_at_rest_is_logged_once():
    """A watcher that fails whenever it is started does not fill the log."""

    def broken(path):
        raise OSError("no")

    async def script():
        await told(File().watch(broken), nothing, 100 * POLL)

    with capture_logs() as logs:
        run(script)
    assert len(logs) == 1


# ------------------------------------------------------------------------------------------------------- stopping


def test_canceled_task_leaves_no_task_behind():
    """Canceling the task that waits for versions stops the watcher too."""

    async def script():
        await told(File().watch(), nothing)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(script)


def test_closed_iterator_leaves_no_task_behind():
    """Closing the iterator after a version stops the watcher too."""

    async def script():
        async with aclosing(File().watch().versions()) as versions:
            await anext(versions)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(script)
