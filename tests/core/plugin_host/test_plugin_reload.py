"""Changed plugin code is imported afresh, and the old code stays in use where that fails."""

import gc
import importlib
import importlib.util
import os
import re
import shutil
import sys
import threading
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from support.effort import many
from support.waiting import PATIENCE
from torghut_core.errors import PluginError
from torghut_core.plugin_host import PluginHost

PLUGIN = """
from torghut_core import Strategy, hookimpl
{imports}

class Good({base}):
    columns = ("rsi14",)

    def on_signal(self, signal, context):
        return None

    def word(self):
        return {word}

@hookimpl
def register_strategies(register):
    register("{name}", Good)
"""

SOURCE = """
from torghut_core import Source, hookimpl

class Tape(Source):
    async def batches(self, size):
        yield

@hookimpl
def register_sources(register):
    register("tape", Tape)
"""


RUNS = "with open({!r}, 'a') as file:\n    file.write('x')\n"


def plugin(word="'one'", name="good", imports="", base="Strategy"):
    return PLUGIN.format(word=word, name=name, imports=imports, base=base)


class Site:
    """A folder on ``sys.path`` with distributions as an installer leaves them."""

    def __init__(self, path):
        self.path = path

    def install(self, name, files, version="1.0", entries=None, requires=()):
        module = name.replace("-", "_")
        for old in self.path.glob(f"{module}-*.dist-info"):
            shutil.rmtree(old)
        info = self.path / f"{module}-{version}.dist-info"
        info.mkdir()
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*head, *(f"Requires-Dist: {other}" for other in requires)]) + "\n")
        points = {name: module} if entries is None else entries
        (info / "entry_points.txt").write_text("[torghut]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
        self.write(files)

    def uninstall(self, name):
        module = name.replace("-", "_")
        for old in self.path.glob(f"{module}*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()

    def write(self, files):
        for name, text in files.items():
            file = self.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_text(text)


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch):
    """What a test imports is forgotten after it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        if name.startswith(("acme", "zeta", "folder_")):
            del sys.modules[name]


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site"
    path.mkdir()
    sys.path.insert(0, str(path))
    return Site(path)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "plugins"
    path.mkdir()
    return Site(path)


def load(previous=None, **options):
    return PluginHost.load(["acme*"], previous=previous, **options)


def words(host):
    """The word that each strategy's code returns, by name."""
    return {
        name: registered.create(registered.parameters({})).word()
        for name, registered in host.registry["strategy"].items()
    }


def modules():
    return {name: module for name, module in sys.modules.items() if name.startswith(("acme", "zeta", "folder_"))}


# ------------------------------------------------------------------------------------------------- what is taken over


def test_unchanged_code_keeps_its_objects_and_imports_nothing(site, folder):
    """Code that is the same on disk keeps its objects, even if its files were written again."""
    site.install("acme-alpha", {"acme_alpha/__init__.py": plugin()})
    folder.write({"folder_beta.py": plugin(name="beta")})
    first = load(folders=[folder.path])
    before = modules()
    site.install("acme-alpha", {"acme_alpha/__init__.py": plugin()})
    second = load(first, folders=[folder.path])
    assert all(new is old for new, old in zip(second.plugins(), first.plugins(), strict=True))
    assert modules() == before
    assert (second.changed, second.kept, second.failures) == ((), [], [])


def test_module_given_directly_keeps_its_objects(plugin_module, fake_classes):
    """What was given as a module stays the same object while the module does."""
    module = plugin_module("given", {"register_strategies": fake_classes["register_strategies"]})
    first = load(extra=[("given", module)])
    second = load(first, extra=[("given", module)])
    assert len(first.plugins()) == 2
    assert all(new is old for new, old in zip(second.plugins(), first.plugins(), strict=True))


def test_only_the_changed_distribution_is_imported(site):
    """An edit of one package leaves the objects and modules of the others alone."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    site.install("acme-beta", {"acme_beta.py": plugin(name="other")})
    first = load()
    beta = sys.modules["acme_beta"]
    site.write({"acme_alpha.py": plugin("'two'")})
    second = load(first)
    assert second.changed == ("acme-alpha",)
    assert words(second) == {"good": "two", "other": "one"}
    assert second.registry["strategy"]["other"] is first.registry["strategy"]["other"]
    assert sys.modules["acme_beta"] is beta


def test_reload_leaves_plugins_in_the_order_of_their_rules(site):
    """Of several plugins that would do, the kernel uses the first: which that is does not depend on what was edited."""
    site.install("acme-alpha", {"acme_alpha.py": plugin(name="z")})
    site.install("acme-beta", {"acme_beta.py": plugin(name="a")})
    first = load()
    site.write({"acme_alpha.py": plugin("'two'", name="z")})
    second = load(first)
    assert words(second) == {"z": "two", "a": "one"}
    for host in (first, second):
        assert host.names_where("strategy", lambda cls: cls.columns == ("rsi14",)) == ["z", "a"]


# --------------------------------------------------------------------------------------------- what is imported afresh


PACKAGE = {
    "acme_alpha/__init__.py": plugin(
        "helper.WORD + self.base()", imports="from . import helper, base", base="base.Base"
    ),
    "acme_alpha/helper.py": "WORD = 'one'\n",
    "acme_alpha/base.py": (
        "from torghut_core import Strategy\nclass Base(Strategy):\n    def base(self):\n        return ''\n"
    ),
}


@pytest.mark.parametrize(
    ("file", "old", "new", "word"),
    [
        ("acme_alpha/__init__.py", "helper.WORD", "'two'", "two"),
        ("acme_alpha/helper.py", "one", "two", "two"),
        ("acme_alpha/base.py", "''", "'+'", "one+"),
    ],
    ids=["module", "helper", "base class"],
)
def test_edit_of_any_module_of_a_package_is_seen(site, file, old, new, word):
    """The module, its helper and its parent class are imported again, and old instances keep the old code."""
    site.install("acme-alpha", PACKAGE)
    first = load()
    [registered] = first.plugins()
    running = registered.create(registered.parameters({}))
    site.write({file: PACKAGE[file].replace(old, new)})
    second = load(first)
    assert words(second) == {"good": word}
    assert second.plugins()[0].code_digest != registered.code_digest
    assert running.word() == "one"
    assert words(first) == {"good": "one"}


def test_base_class_of_another_distribution_is_seen(site):
    """A package that derives from another's class is imported again with it."""
    base = "from torghut_core import Strategy\nclass Base(Strategy):\n    WORD = 'one'\n"
    site.install("acme-zeta", {"acme_zeta.py": base + plugin(name="zeta")})
    site.install(
        "acme-alpha",
        {"acme_alpha.py": plugin("self.WORD", imports="from acme_zeta import Base", base="Base")},
        requires=["acme-zeta>=1", "torghut", "pydantic"],
    )
    first = load()
    site.write({"acme_zeta.py": base.replace("one", "two") + plugin(name="zeta")})
    second = load(first)
    assert words(second) == {"zeta": "one", "good": "two"}
    assert second.changed == ("acme-zeta", "acme-alpha")
    assert issubclass(second.registry["strategy"]["good"].cls, sys.modules["acme_zeta"].Base)


@pytest.mark.parametrize("is_compiled", [False, True])
def test_change_of_a_dependency_is_seen(site, is_compiled):
    """A library without plugins that a plugin depends on, directly or not, belongs to its code."""
    site.install("zeta-deep", {"zeta_deep.py": "WORD = 'one'\n"}, entries={})
    site.install("zeta", {"zeta.py": "from zeta_deep import WORD\n"}, entries={}, requires=["zeta-deep"])
    site.install("acme-alpha", {"acme_alpha.py": plugin("WORD", imports="from zeta import WORD")}, requires=["zeta"])
    first = load()
    site.write({"zeta_deep.py": "WORD = 'two'\n"})
    if is_compiled:
        site.write({"zeta_fast.so": "", "zeta-1.0.dist-info/RECORD": "zeta_fast.so,sha256=x,1\n"})
    second = load(first)
    assert words(second) == {"good": "one" if is_compiled else "two"}
    assert [error.reason.partition(":")[0] for error in second.kept] == ["restart required"] * is_compiled


def test_dependency_shared_by_two_is_imported_once(site):
    """Two packages that depend on one library still share it after a change."""
    site.install("zeta", {"zeta.py": "class Thing: pass\n"}, entries={})
    for name in ("alpha", "beta"):
        text = plugin("Thing", name=name, imports="from zeta import Thing")
        site.install(f"acme-{name}", {f"acme_{name}.py": text}, requires=["zeta"])
    first = load()
    site.write({"zeta.py": "class Thing: new = True\n"})
    second = words(load(first))
    assert second["alpha"] is second["beta"] is sys.modules["zeta"].Thing
    assert second["alpha"].new


@pytest.mark.parametrize("file", ["acme_alpha/helper.py", "acme_alpha/late.py"])
def test_edits_of_one_size_within_a_second_are_seen(site, file, monkeypatch):
    """Stale bytecode is never run, not even of a module that is imported late."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    site.install("acme-alpha", PACKAGE | {"acme_alpha/late.py": "WORD = 'one'\n"})
    late = plugin("both()", imports="def both():\n    from . import helper, late\n    return helper.WORD + late.WORD")
    site.write({"acme_alpha/__init__.py": late})
    host = load()
    assert words(host) == {"good": "oneone"}
    for number, word in enumerate(("two", "six", "ten", "one")):
        site.write({file: f"WORD = '{word}'\n"})
        os.utime(site.path / file, ns=(1_000_000_000_000_000_000 + number,) * 2)
        host = load(host)
        assert host.changed == ("acme-alpha",)
        assert word in words(host)["good"]


def test_new_version_is_seen_with_the_same_code(site):
    """The catalog asks for versions, so a new one is loaded even if only its number changed."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    first = load()
    site.install("acme-alpha", {"acme_alpha.py": plugin()}, version="1.1")
    [registered] = load(first).plugins()
    assert registered.version == "1.1"
    assert registered.code_digest == first.plugins()[0].code_digest


def test_renamed_module_is_loaded(site):
    """A new version may have its plugin in another module; nothing of the old one stays."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    first = load()
    site.uninstall("acme-alpha")
    site.install("acme-alpha", {"acme_other.py": plugin("'two'")}, version="2.0", entries={"acme-alpha": "acme_other"})
    second = load(first)
    assert words(second) == {"good": "two"}
    assert modules().keys() == {"acme_other"}


def test_entry_point_may_come_and_go(site):
    """A package may register more plugins, or fewer, than before."""
    both = {"acme_alpha/__init__.py": plugin(), "acme_alpha/more.py": plugin(name="more")}
    site.install("acme-alpha", both)
    first = load()
    site.install("acme-alpha", both, entries={"a": "acme_alpha", "b": "acme_alpha.more"})
    second = load(first)
    assert words(second).keys() == {"good", "more"}
    site.install("acme-alpha", both)
    assert words(load(second)).keys() == {"good"}


def test_distribution_may_come_and_go(site):
    """A package installed while it trades is there, and one uninstalled is gone with its modules."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    first = load()
    site.install("acme-beta", {"acme_beta.py": plugin(name="beta")})
    second = load(first)
    assert second.changed == ("acme-beta",)
    assert words(second).keys() == {"good", "beta"}
    site.uninstall("acme-beta")
    third = load(second)
    assert words(third).keys() == {"good"}
    assert modules().keys() == {"acme_alpha"}
    assert words(second).keys() == {"good", "beta"}


def test_distribution_without_its_module_that_comes_is_a_failure(site):
    """A broken package that is installed while the kernel trades is reported, and the others are not affected."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    first = load()
    site.install("acme-beta", {})
    second = load(first)
    assert words(second) == {"good": "one"}
    assert [failure.plugin for failure in second.failures] == ["acme-beta"]
    assert (second.kept, second.changed) == ([], ())


def test_distribution_that_is_no_longer_allowed_goes(site):
    """A narrower `plugins.allow` removes plugins."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    site.install("acme-beta", {"acme_beta.py": plugin(name="beta")})
    host = PluginHost.load(["acme-alpha"], previous=load())
    assert words(host).keys() == {"good"}
    assert ("acme-beta", "1.0") in host.refused


def test_name_may_move_to_another_distribution(site):
    """A plugin that moves is loaded with the next reload at the latest."""
    site.install("acme-alpha", {"acme_alpha.py": plugin(name="a")})
    site.install("acme-beta", {"acme_beta.py": plugin(name="b")})
    first = load()
    site.write({"acme_alpha.py": plugin("'two'", name="b"), "acme_beta.py": plugin("'two'", name="c")})
    second = load(first)
    assert words(second) == {"a": "one", "c": "two"}
    assert [error.plugin for error in second.kept] == ["acme-alpha"]
    third = load(second)
    assert words(third) == {"b": "two", "c": "two"}
    assert third.kept == []


def test_name_of_kept_plugin_cannot_be_taken(site):
    """A distribution whose old code stays in use keeps its names, even if another registers them."""
    site.install("acme-alpha", {"acme_alpha.py": plugin(name="a")})
    site.install("acme-beta", {"acme_beta.py": plugin(name="b")})
    first = load()
    site.write({"acme_alpha.py": "1 / 0", "acme_beta.py": plugin(name="a")})
    second = load(first)
    assert all(new is old for new, old in zip(second.plugins(), first.plugins(), strict=True))
    assert [error.reason.partition(" (")[0].partition(";")[0] for error in second.kept] == [
        "ZeroDivisionError: division by zero",
        "strategy 'a': acme-alpha has a strategy of that name",
    ]


# --------------------------------------------------------------------------------------------------- plugin folders


def test_modules_with_hooks_of_a_folder_are_plugins(folder):
    """An operator's folder needs no packaging and no `allow`; helpers are no plugins and no failures."""
    folder.write(
        {
            "folder_alpha.py": plugin("folder_helper.WORD", imports="import folder_helper"),
            "folder_beta/__init__.py": plugin(name="beta"),
            "folder_helper.py": "WORD = 'one'\n",
            "_folder_private.py": "1 / 0\n",
            ".folder_hidden.py": "1 / 0\n",
            "notes.txt": "",
        }
    )
    host = load(folders=[folder.path, folder.path])
    assert words(host) == {"good": "one", "beta": "one"}
    assert host.failures == []
    assert {(registered.distribution, registered.version) for registered in host.plugins()} == {("", "")}
    assert len({registered.code_digest for registered in host.plugins()}) == 1
    assert sys.path.count(str(folder.path)) == 1


def test_folder_follows_its_modules(folder):
    """Modules may be added, edited and removed, and an edit of a helper counts."""
    folder.write(
        {
            "folder_alpha.py": plugin("folder_helper.WORD", imports="import folder_helper"),
            "folder_helper.py": "WORD = 'one'\n",
        }
    )
    host = load(folders=[folder.path])
    for files, expected in (
        ({"folder_helper.py": "WORD = 'two'\n"}, {"good": "two"}),
        ({"folder_beta.py": plugin(name="beta")}, {"good": "two", "beta": "one"}),
        ({"folder_beta.py": plugin("'new'", name="beta")}, {"good": "two", "beta": "new"}),
        ({"folder_alpha.py": None}, {"beta": "new"}),
        ({"folder_beta.py": None}, {}),
    ):
        folder.write(files)
        host = load(host, folders=[folder.path])
        assert host.changed == (str(folder.path),)
        assert words(host) == expected
        assert (host.kept, host.failures) == ([], [])
    assert "folder_alpha" not in sys.modules


def test_folder_follows_a_distribution_that_it_imports(site, folder):
    """A class in a folder is imported again when its parent class in a plugin package was edited."""
    base = "from torghut_core import Strategy\nclass Base(Strategy):\n    WORD = 'one'\n"
    site.install("acme-alpha", {"acme_alpha.py": base + plugin(name="alpha")})
    folder.write({"folder_beta.py": plugin("self.WORD", imports="from acme_alpha import Base", base="Base")})
    first = load(folders=[folder.path])
    site.write({"acme_alpha.py": base.replace("one", "two") + plugin(name="alpha")})
    second = load(first, folders=[folder.path])
    assert second.changed == ("acme-alpha", str(folder.path))
    assert words(second) == {"alpha": "one", "good": "two"}


def test_folder_as_a_config_map_mounts_it_is_followed(tmp_path):
    """Files that are links into a folder that is swapped as a whole are read through."""
    mount = Site(tmp_path / "mount")
    mount.write({"..1/folder_alpha.py": plugin(), "..2/folder_alpha.py": plugin("'two'")})
    (mount.path / "..data").symlink_to("..1")
    (mount.path / "folder_alpha.py").symlink_to("..data/folder_alpha.py")
    first = load(folders=[mount.path])
    assert words(first) == {"good": "one"}
    (mount.path / "..new").symlink_to("..2")
    (mount.path / "..new").rename(mount.path / "..data")
    assert words(load(first, folders=[mount.path])) == {"good": "two"}


def test_distribution_in_a_folder_is_loaded_once(folder):
    """A distribution installed into a plugin folder is loaded by its entry point, if allowed, and not as a module too."""
    folder.install("acme-alpha", {"acme_alpha.py": plugin()})
    folder.write({"folder_beta.py": plugin(name="beta")})
    host = load(folders=[folder.path])
    assert host.failures == []
    assert {name: registered.distribution for name, registered in host.registry["strategy"].items()} == {
        "good": "acme-alpha",
        "beta": "",
    }
    assert words(PluginHost.load([], folders=[folder.path])).keys() == {"beta"}


def test_missing_folder_is_a_failure_and_nothing_else(site, tmp_path):
    """A missing folder is named; the others load."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    host = load(folders=[tmp_path / "nowhere"])
    assert words(host) == {"good": "one"}
    [failure] = host.failures
    assert failure.plugin == str(tmp_path / "nowhere")
    assert failure.reason == "there is no such folder: make it, or take it out of TORGHUT_PLUGIN_PATH"


def test_folder_that_vanishes_keeps_its_plugins(folder):
    """A mount that is missing for a moment removes no strategy."""
    folder.write({"folder_alpha.py": plugin()})
    first = load(folders=[folder.path])
    folder.path.rename(folder.path.with_name("away"))
    second = load(first, folders=[folder.path])
    assert second.plugins()[0] is first.plugins()[0]
    assert [error.plugin for error in second.kept] == [str(folder.path)]
    folder.path.with_name("away").rename(folder.path)
    assert load(second, folders=[folder.path]).kept == []


def test_folder_module_named_like_another_is_left_out(folder):
    """A module whose name is taken is reported, and the other one is not affected."""
    folder.write({"json.py": plugin(), "pydantic.py": plugin(), "folder_alpha.py": plugin()})
    pydantic = sys.modules["pydantic"]
    host = load(folders=[folder.path])
    assert sorted(failure.plugin for failure in host.failures) == ["json", "pydantic"]
    folder.write({"folder_alpha.py": plugin("'two'")})
    load(host, folders=[folder.path])
    assert sys.modules["pydantic"] is pydantic


# --------------------------------------------------------------------------------------------------- what is kept

ALPHA = "acme_alpha/__init__.py"
FAST = f"acme_alpha/_fast{EXTENSION_SUFFIXES[0]}"
BROKEN = {
    "syntax error": ({ALPHA: "def broken(:"}, r"SyntaxError: invalid syntax \(__init__.py, line 1\)"),
    "syntax error in helper": ({"acme_alpha/helper.py": "'"}, r"SyntaxError: .*\(helper.py, line 1\)"),
    "null byte": ({ALPHA: "\0"}, "(SyntaxError|ValueError): source code"),
    "import error": ({ALPHA: "from .helper import NO"}, "ImportError: cannot import name 'NO'"),
    "missing dependency": ({ALPHA: "import nothing_here"}, r"ModuleNotFoundError: .*'nothing_here' \(__init__.py:1\)"),
    "raises at import": ({ALPHA: "\n1 / 0"}, r"ZeroDivisionError: division by zero \(__init__.py:2\)"),
    "exits at import": ({ALPHA: "raise SystemExit(3)"}, r"SystemExit: 3 \(__init__.py:1\)"),
    "raises in hook": ({ALPHA: plugin().replace("    register(", "    1 / 0 #")}, "ZeroDivisionError"),
    "hook without mark": ({ALPHA: plugin().replace("@hookimpl", "")}, "register_strategies has no @hookimpl"),
    "unknown hook": ({ALPHA: plugin().replace("register_strategies", "register_tactics")}, "no hook register_tactics"),
    "no hook": ({ALPHA: ""}, "it has no hook"),
    "wrong base class": ({ALPHA: plugin(base="object")}, "Good is not a subclass of Strategy"),
    "params broken": ({ALPHA: plugin().replace("columns =", "Params = dict\n    columns =")}, "`Params` must be"),
    "newer api": ({ALPHA: "torghut_api = 99\n" + plugin()}, "written for version 99"),
    "unknown column": ({ALPHA: plugin().replace("rsi14", "rsi41")}, r"no column 'rsi41' \(did you mean 'rsi14'"),
    "method left out": ({ALPHA: plugin().replace("on_signal", "on_noise")}, "Good does not implement on_signal"),
    "name of another": ({ALPHA: plugin(name="other")}, "acme-beta has a strategy of that name"),
    "bad name": ({ALPHA: plugin(name="Not Good")}, "the name must be of a-z"),
    "compiled extension": ({FAST: "", ALPHA: plugin("'two'")}, "restart required: .*_fast"),
    "source added": ({ALPHA: plugin("'two'") + SOURCE}, "restart required: it has the source 'tape'"),
    "module removed": ({ALPHA: None}, "it has no hook|ModuleNotFoundError"),
}


@pytest.mark.parametrize(("files", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_plugin_keeps_its_old_code(site, files, reason):
    """Objects, modules and instances are those of before, the reason is reported, and the next good edit is loaded."""
    site.install("acme-alpha", {ALPHA: plugin("helper.WORD", imports="from . import helper"), **_helper("one")})
    site.install("acme-beta", {"acme_beta.py": plugin(name="other")})
    first = load()
    registered = first.registry["strategy"]["good"]
    running = registered.create(registered.parameters({}))
    before = modules()
    if "acme_alpha/helper.py" not in files:
        site.write({"acme_alpha/helper.py": "WORD = 'ill'\n"})
    site.write({name: text for name, text in files.items() if text is not None or name == ALPHA})
    site.write({"acme_beta.py": plugin("'two'", name="other")})

    second = load(first)
    assert second.registry["strategy"]["good"] is registered
    assert words(second) == {"good": "one", "other": "two"}
    assert running.word() == "one"
    [error] = second.kept
    assert isinstance(error, PluginError)
    assert (error.plugin, error.distribution) == ("acme-alpha", "acme-alpha")
    assert re.search(reason, error.reason), error.reason
    assert error.reason.endswith("; the old code stays in use")
    assert "\n" not in error.reason
    assert second.failures == []
    assert second.changed == ("acme-beta",)
    assert {name: module for name, module in modules().items() if name != "acme_beta"} == {
        name: module for name, module in before.items() if name != "acme_beta"
    }

    site.write({ALPHA: plugin("helper.WORD", imports="from . import helper"), **_helper("new")})
    if FAST in files:
        site.write({FAST: None})
    third = load(second)
    assert third.kept == []
    assert words(third) == {"good": "new", "other": "two"}


def _helper(word):
    return {"acme_alpha/helper.py": f"WORD = '{word}'\n"}


def test_failed_code_is_not_tried_again_until_something_changes(site, tmp_path):
    """Broken code runs once for each change and not at each load; what it lacked may be installed later."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    first = load()
    site.write({"acme_alpha.py": RUNS.format(str(tmp_path / "ran")) + "import zeta\n" + plugin("'two'")})
    second = load(first)
    third = load(load(second))
    assert (tmp_path / "ran").read_text() == "x"
    assert [str(error) for error in third.kept] == [str(error) for error in second.kept] != []
    site.write({"zeta.py": ""})
    fourth = load(third)
    assert words(fourth) == {"good": "two"}
    assert fourth.kept == []


def test_plugin_that_was_broken_from_the_start_is_loaded_when_it_is_fixed(site):
    """Without old code it is a failure, and is loaded with its first good version."""
    site.install("acme-alpha", {"acme_alpha.py": "1 / 0"})
    first = load()
    second = load(first)
    assert [failure.plugin for failure in second.failures] == ["acme-alpha"]
    assert second.kept == []
    site.write({"acme_alpha.py": plugin()})
    third = load(second)
    assert words(third) == {"good": "one"}
    assert third.failures == []


def test_package_with_extension_loads_at_the_start(site):
    """Compiled code is refused only if it would have to be imported twice."""
    site.install("acme-alpha", {ALPHA: plugin(), FAST: ""})
    assert words(load()) == {"good": "one"}


def test_package_with_a_source_waits_for_a_restart(site):
    """A package with a source, stage or broker is not even imported."""
    site.install("acme-alpha", {"acme_alpha.py": SOURCE})
    first = load()
    site.write({"acme_alpha.py": "raise AssertionError\n"})
    second = load(first)
    assert second.plugins()[0] is first.plugins()[0]
    assert [error.reason for error in second.kept] == [
        "restart required: it has the source 'tape'; the old code stays in use"
    ]


def test_package_whose_parent_could_not_be_loaded_is_kept(site):
    """Code is never mixed: new code on an old parent class would have the digest of other code."""
    site.install("acme-zeta", {"acme_zeta.py": plugin(name="zeta")})
    site.install("acme-alpha", {"acme_alpha.py": plugin()}, requires=["acme-zeta"])
    first = load()
    site.write({"acme_zeta.py": "1 / 0", "acme_alpha.py": plugin("'two'")})
    second = load(first)
    assert [new is old for new, old in zip(second.plugins(), first.plugins(), strict=True)] == [True, True]
    assert [error.reason for error in second.kept] == [
        "ZeroDivisionError: division by zero (acme_zeta.py:1); the old code stays in use",
        "acme-zeta, which it depends on, could not be loaded; the old code stays in use",
    ]


def test_package_whose_parent_never_worked_is_loaded(site):
    """Broken hooks of a package do not stop those that need only its classes."""
    site.install("acme-zeta", {"acme_zeta.py": plugin().replace("@hookimpl", "")})
    text = plugin("'one'", imports="from acme_zeta import Good as Base", base="Base")
    site.install("acme-alpha", {"acme_alpha.py": text}, requires=["acme-zeta"])
    first = load()
    site.write({"acme_alpha.py": text.replace("one", "two")})
    second = load(first)
    assert words(second) == {"good": "two"}
    assert [failure.plugin for failure in second.failures] == ["acme-zeta"]


def test_interrupt_while_importing_puts_everything_back(site):
    """Ctrl-C in the middle of a load leaves the old modules in place."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    site.install("acme-beta", {"acme_beta.py": plugin(name="beta")})
    first = load()
    before = modules()
    site.write(
        {"acme_alpha.py": plugin("'two'"), "acme_beta.py": "import signal\nsignal.raise_signal(signal.SIGINT)\n"}
    )
    with pytest.raises(KeyboardInterrupt):
        load(first)
    assert modules() == before


def test_old_code_runs_while_the_new_is_imported(site):
    """A load in a thread beside the loop does not block trading."""
    site.install("acme-alpha", {"acme_alpha.py": plugin()})
    first = load()
    [registered] = first.plugins()
    running = registered.create(registered.parameters({}))
    gate = site.path / "gate.py"
    gate.write_text("import threading\nstarted, go_on = threading.Event(), threading.Event()\n")
    spec = importlib.util.spec_from_file_location("acme_gate", gate)
    sys.modules["acme_gate"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    site.write({"acme_alpha.py": plugin("'two'", imports="import acme_gate as g\ng.started.set()\ng.go_on.wait(10)")})
    loaded = []
    worker = threading.Thread(target=lambda: loaded.append(load(first)))
    worker.start()
    assert module.started.wait(PATIENCE)
    assert running.word() == "one"
    assert registered.create(registered.parameters({})).word() == "one"
    assert loaded == []
    module.go_on.set()
    worker.join(PATIENCE)
    assert words(loaded[0]) == {"good": "two"}


def test_editable_finder_still_works(tmp_path, site):
    """Packages found by a finder of their installer, and not on the path, are imported afresh by it."""
    tree = Site(tmp_path / "tree")
    tree.write({"acme_alpha.py": plugin()})

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name != "acme_alpha":
                return None
            return importlib.util.spec_from_file_location(name, tree.path / "acme_alpha.py")

    site.install("acme-alpha", {})
    sys.meta_path.append(Finder)
    try:
        first = load()
        tree.write({"acme_alpha.py": plugin("'two'")})
        assert words(load(first)) == {"good": "two"}
    finally:
        sys.meta_path.remove(Finder)


# ------------------------------------------------------------------------------------------------- nothing is left over


def open_files():
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.is_dir() else 0


@pytest.mark.examples
def test_reloads_leave_nothing_behind(site, folder):
    """Old code becomes garbage: no module, thread, file or finder is left, and memory grows by less than 5 %."""
    site.install("acme-alpha", PACKAGE)
    folder.write({"folder_beta.py": plugin(name="beta")})
    host = load(folders=[folder.path])
    gc.collect()
    gc.freeze()  # what other tests have left is not looked at
    padding = "\n".join(f"def function_{number}():\n    return {number}" for number in range(200))

    def reload(number):
        nonlocal host
        word = f"{number:05}"
        site.write({"acme_alpha/helper.py": f"WORD = '{word}'\n{padding}\n"})
        broken = "1 / 0\n" if number % 5 == 0 else ""
        folder.write({"folder_beta.py": plugin(f"'{word}'", name="beta") + broken})
        host = load(host, folders=[folder.path])
        assert words(host)["good"] == word

    def counts():
        gc.collect()
        return (
            len(sys.modules),
            len(sys.meta_path),
            len(sys.path),
            threading.active_count(),
            open_files(),
            sum(
                isinstance(thing, type) and str(thing.__module__).startswith(("acme", "folder_"))
                for thing in gc.get_objects()
            ),
        )

    warm = 35 * many(2, quick=1)  # the edits repeat every 35
    for number in range(warm):
        reload(number)
    before, blocks = counts(), sys.getallocatedblocks()
    for number in range(warm, warm + 35 * many(15, quick=1)):
        reload(number)
    assert counts() == before
    assert sys.getallocatedblocks() < 1.05 * blocks
