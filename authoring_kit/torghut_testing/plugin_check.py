"""What a plugin package has to have before others rely on it: rules at three levels, bronze, silver and gold.

`RULES` is the table. A rule is a function that says what it found, or raises `Missing` with what to do. The package's code never
runs here: it runs in torghut's own commands and in pytest, each a process of its own with a time limit, so what hangs or
ends its process is a rule that fails.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import yaml
from packaging.version import InvalidVersion, Version

from torghut_core import MINUTE, format_timestamp, parse_timestamp
from torghut_testing.project import MANIFEST, Project

LEVELS = ("bronze", "silver", "gold")
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "strategy": ("Hypothesis", "Universe", "Entry and exit", "Limits", "Operational signals", "Roll-back"),
    "indicator": ("Hypothesis", "Limits", "Roll-back"),
    "risk rule": ("Hypothesis", "Universe", "Limits", "Operational signals", "Roll-back"),
    "advisor": ("Hypothesis", "Universe", "Limits", "Operational signals", "Roll-back"),
}
"""What the README of a package with such a plugin says."""
SECTIONS_OF_OTHERS = ("Universe", "Limits", "Operational signals", "Roll-back")
NUMBERS = ("integer", "number")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const")
OTHER_BATCH = 97
"""Events per batch of the replay that is compared with the usual one."""
MINUTES = 3 * 24 * 60
"""Length of the tape that is replayed."""
CATALOG = "catalog.yaml"
README = "README.md"


class Missing(Exception):
    """A rule is not kept; the text says what is missing, and what to do."""


class Outcome(NamedTuple):
    """What a rule found, and what is missing to keep it: one of both is ""."""

    rule: str
    level: str
    promise: str
    found: str
    missing: str


class Done(NamedTuple):
    """A command that has ended: its output, and why it failed, "" where it did not."""

    out: str
    failure: str


class Package:
    """A project, and what torghut and pytest say of it; each is asked once.

    Parameters
    ----------
    project : what is checked.
    limit : seconds that a command may take.
    """

    def __init__(self, project: Project, limit: float) -> None:
        self.project = project
        self._limit = limit
        self._lock = Lock()
        self._asked: dict[tuple[str, ...], Future[Any]] = {}

    def once(self, key: tuple[str, ...], ask: Callable[[], Any]) -> Any:
        """What `ask` returns, or raises, called once for each key; another thread waits for it."""
        with self._lock:
            is_first = key not in self._asked
            future = self._asked.setdefault(key, Future())
        if is_first:
            try:
                future.set_result(ask())
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def torghut(self, *words: str, seed: int = 0) -> Done:
        """A command of torghut with the package's plugins, and with this seed of the order of Python's sets."""
        run = partial(self._run, "-c", "from torghut_core.cli import main; main()", *words, seed=seed)
        done: Done = self.once((*words, str(seed)), run)
        return done

    def pytest(self, *words: str) -> Done:
        """Run tests of the project."""
        options = ("-q", "-rA", "--tb=line", "-p", "no:cacheprovider", "-p", "torghut_testing.pytest_plugin")
        run = partial(self._run, "-m", "pytest", *options, "--rootdir", ".", *words)
        done: Done = self.once(words, run)
        return done

    @property
    def plugins(self) -> list[dict[str, Any]]:
        """What the package registers, as `torghut plugin list --json` has it.

        Raises
        ------
        Missing : it does not load.
        """
        done = self.torghut("plugin", "list", "--json")
        if done.failure:
            raise Missing(done.failure)
        with suppress(ValueError):
            listed = json.loads(done.out[done.out.index('{\n  "plugins"') :])
            mine = self.project.name if self._is_installed() else ""  # what is in a folder is of no distribution
            failures = [each for each in listed["failures"] if each["distribution"] in ("", mine)]
            if failures:
                raise Missing("; ".join(f"{each['name']}: {each['reason']}" for each in failures))
            return [each for each in listed["plugins"] if each["distribution"] == mine]
        raise Missing(f"`torghut plugin list` was disturbed: {done.out[-200:]!r}")

    @property
    def kinds(self) -> list[str]:
        """The kinds of its plugins."""
        return sorted({plugin["kind"] for plugin in self.plugins})

    def _is_installed(self) -> bool:
        with suppress(PackageNotFoundError, ValueError):
            return bool(distribution(self.project.name))
        return False

    def _run(self, *words: str, seed: int = 0) -> Done:
        """Run Python in the project's folder, with its code and no other of its name."""
        root = str(self.project.root)
        ways = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(ways) if self._is_installed() else os.environ.get("PYTHONPATH", ""),
            "TORGHUT_PLUGIN_PATH": "" if self._is_installed() else root,
            "PYTHONHASHSEED": str(seed),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        process = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, *words],
            cwd=self.project.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            out, error = process.communicate(timeout=self._limit)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Done("", f"it did not end within {self._limit:g} s")
        last = next(iter(reversed(error.strip().splitlines())), "")
        how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        return Done(out, f"it ended with {how}: {last}" if process.returncode else "")


# The rules.


def loads(package: Package) -> str:
    """Its modules are imported as torghut does it, and every hook registers what it has."""
    if not package.project.modules:
        raise Missing(f'{MANIFEST} has no [project.entry-points.torghut]: add NAME = "MODULE"')
    if not package.plugins:
        raise Missing("no hook registers a plugin: call `register(name, cls)` in it")
    return ", ".join(f"{plugin['kind']} {plugin['name']}" for plugin in package.plugins)


def parameters(package: Package) -> str:
    """Every parameter has a help text, and every number bounds."""
    wrong, count = [], 0
    for plugin in package.plugins:
        for name, field in plugin["parameters"].get("properties", {}).items():
            count += 1
            if not field.get("description"):
                wrong.append(f"{plugin['name']}.{name} has no help")
            shapes = [field, *field.get("anyOf", [])]
            numbers = [shape for shape in shapes if shape.get("type") in NUMBERS]
            if numbers and not any(bound in shape for shape in (field, *numbers) for bound in BOUNDS):
                wrong.append(f"{plugin['name']}.{name} has no bounds")
    if wrong:
        raise Missing(f"{'; '.join(wrong)} (write `param(DEFAULT, ge=..., le=..., help=...)`)")
    return f"{count} parameters"


def catalog(package: Package) -> str:
    """The catalog beside it is valid, with its plugins and their parameters."""
    if not (package.project.folder / CATALOG).is_file():
        raise Missing(f"there is no {CATALOG}: add one with an entry that uses it, disabled and with small limits")
    done = package.torghut("catalog", "validate", CATALOG, "--json")
    if done.failure:
        problems: list[str] = []
        with suppress(ValueError):
            found = json.loads(done.out[done.out.index('{\n  "valid"') :])["problems"]
            problems = [f"line {each['line']}: {each['key']}: {each['message']} ({each['hint']})" for each in found]
        raise Missing("; ".join(problems) or done.failure)
    return f"{CATALOG} is valid"


def conformance(package: Package) -> str:
    """The suite of each plugin's kind passes."""
    return _passed(package.pytest("--torghut", MANIFEST), "its suites hold no tests", package)


def tests(package: Package) -> str:
    """It has tests of its own, and they pass."""
    return _passed(package.pytest("--ignore", MANIFEST), "there are none: add tests/test_*.py", package)


def readme(package: Package) -> str:
    """The README says what a reader has to know before it trades, a section for each."""
    file = package.project.folder / README
    if not file.is_file():
        raise Missing(f"there is no {README}")
    found = {head.strip().lower() for head in re.findall(r"^#+ +(.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)}
    wanted = dict.fromkeys(section for kind in package.kinds for section in SECTIONS.get(kind, SECTIONS_OF_OTHERS))
    if absent := [section for section in wanted if section.lower() not in found]:
        raise Missing(f"{README} has no section {', '.join(absent)}")
    return f"{len(wanted)} sections"


def state(package: Package) -> str:
    """State is kept and restored: who resumes with what was saved does the same as who was never stopped."""
    done = package.pytest("--torghut", MANIFEST)
    told = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(test_\w*(?:state|cursor)\w*)", done.out, re.MULTILINE)
    if not told:
        raise Missing(done.failure or "no test of a suite saves and restores it")
    if broken := sorted({name for outcome, name in told if outcome != "PASSED"}):
        raise Missing(", ".join(broken))
    return f"{len(told)} tests of its suites"


def chunking(package: Package) -> str:
    """A replay of its catalog, every entry enabled, gives the same digest in batches of any size."""
    whole = _replayed(package, 65_536, 0)
    if _replayed(package, OTHER_BATCH, 1) != whole:  # the same digest with another seed, too, answers both questions
        is_stable = _replayed(package, 65_536, 1) == whole
        batches = f"in batches of {OTHER_BATCH} events it decides differently: something depends on the batch"
        raise Missing(batches if is_stable else "two runs differ in batches of the same size already")
    return f"digest {whole[:16]}"


def stable(package: Package) -> str:
    """The same replay twice gives the same digest, also where Python orders its sets differently."""
    whole = _replayed(package, 65_536, 0)
    if _replayed(package, OTHER_BATCH, 1) != whole and _replayed(package, 65_536, 1) != whole:
        raise Missing("two runs decide differently: a clock, chance, or the order of a set")
    return f"digest {whole[:16]}"


def typed(package: Package) -> str:
    """It is typed, and says so: each of its packages has a ``py.typed``."""
    root = package.project.root
    absent = sorted(
        top
        for top in {module.partition(".")[0] for module in package.project.modules}
        if not (root / top / "py.typed").is_file()
    )
    if absent:
        raise Missing(f"no {', '.join(f'{top}/py.typed' for top in absent)}: a package (a folder) with that empty file")
    return "py.typed"


def version(package: Package) -> str:
    """It has a version that can be compared."""
    stated = package.project.version
    with suppress(InvalidVersion):
        return stated if stated == "dynamic" else str(Version(stated))
    raise Missing(f'{MANIFEST}: write `version = "0.1.0"`')


def license_(package: Package) -> str:
    """It says on which terms it may be used."""
    if not package.project.license:
        raise Missing(f'{MANIFEST}: write `license = "..."`, the SPDX name of one')
    return package.project.license


RULES: tuple[tuple[str, str, Callable[[Package], str]], ...] = (
    ("bronze", "loads", loads),
    ("bronze", "parameters", parameters),
    ("bronze", "catalog", catalog),
    ("silver", "conformance", conformance),
    ("silver", "tests", tests),
    ("silver", "readme", readme),
    ("gold", "state", state),
    ("gold", "chunking", chunking),
    ("gold", "stable", stable),
    ("gold", "typed", typed),
    ("gold", "version", version),
    ("gold", "license", license_),
)
"""Level, name and function of every rule, in the order in which they are shown."""


def check_plugin(path_or_name: str, limit: float = 120.0) -> dict[str, Any]:
    """Look at a plugin package by all rules.

    Parameters
    ----------
    path_or_name : folder of a project, or name of a distribution that is installed in editable mode.
    limit : seconds that one command may take.

    Returns
    -------
    As JSON values: `name`, `path`, `level` (the highest that it reaches with all below it, "" for none), and `rules`, each with
    `level`, `rule`, `promise`, and `found` or `missing`.

    Raises
    ------
    InputError : there is no such project.
    """
    package = Package(Project.find(path_or_name), limit)
    first, *others = RULES
    outcomes = [_outcome(package, first)]
    if outcomes[0].missing:
        outcomes += [
            Outcome(name, level, _promise(look), "", "not looked at, as it does not load")
            for level, name, look in others
        ]
    else:
        with ThreadPoolExecutor(2) as pool:  # which wait for processes
            outcomes += pool.map(partial(_outcome, package), others)
    failed = {outcome.level for outcome in outcomes if outcome.missing}
    reached = ""
    for level in LEVELS:
        if level in failed:
            break
        reached = level
    return {
        "name": package.project.name,
        "path": str(package.project.folder),
        "level": reached,
        "rules": [outcome._asdict() for outcome in outcomes],
    }


def _outcome(package: Package, rule: tuple[str, str, Callable[[Package], str]]) -> Outcome:
    level, name, look = rule
    try:
        return Outcome(name, level, _promise(look), look(package), "")
    except Missing as missing:
        return Outcome(name, level, _promise(look), "", str(missing))


def _promise(look: Callable[[Package], str]) -> str:
    return " ".join((look.__doc__ or "").split())


def _passed(done: Done, none: str, package: Package) -> str:
    """The last line of pytest where all tests pass."""
    last = next(iter(reversed(done.out.strip().splitlines())), "")
    if done.failure:
        failed = re.findall(r"^(?:FAILED|ERROR) (.+)$", done.out, re.MULTILINE)
        if "no tests ran" in last:
            raise Missing(none)
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        where = f"(run: pytest, in {package.project.folder})"
        raise Missing(f"{'; '.join(failed[:3]) or done.failure}{more} {where}")
    return last


def _replayed(package: Package, batch_size: int, seed: int) -> str:
    """The digest of a replay of the package's catalog."""
    key = ("replay", str(batch_size), str(seed))
    digest: str = package.once(key, partial(_replay, package, batch_size, seed))
    return digest


def _replay(package: Package, batch_size: int, seed: int) -> str:
    file = package.project.folder / CATALOG
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        entries = content.get("strategies", [])
        symbols = sorted({symbol for entry in entries for symbol in entry["symbols"]})
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        raise Missing(f"{CATALOG} has to be valid first") from None
    if not symbols:
        raise Missing(f"{CATALOG} has no strategy: add one, so that there is something to replay")
    for entry in entries:
        entry["enabled"] = True
    with tempfile.TemporaryDirectory() as folder:
        enabled, state_folder = Path(folder) / CATALOG, Path(folder) / "state"
        enabled.write_text(json.dumps(content), encoding="utf-8")
        tape = _tape(symbols, Path(folder) / "tape.csv")
        done = package.torghut(
            "replay", str(tape), "--catalog", str(enabled), "--no-store", "--json",
            "--state", str(state_folder), "--batch-size", str(batch_size), seed=seed,
        )  # fmt: skip
    if done.failure:
        raise Missing(f"its replay failed: {done.failure}")
    result = json.loads(done.out[done.out.index('{"') :])
    if not result["decisions"]:
        raise Missing(
            f"nothing was decided on {result['events']} events, so nothing is proved: let {CATALOG} decide more"
        )
    return str(result["digest"])


def _tape(symbols: list[str], made: Path) -> Path:
    """A tape of random walks, a trade of each symbol every minute."""
    start, rng = parse_timestamp("2026-01-05T14:30:00Z"), np.random.default_rng(1)
    prices = {symbol: 100 * np.exp(np.cumsum(rng.normal(0, 0.001, MINUTES))) for symbol in symbols}
    with made.open("w", encoding="utf-8") as file:
        file.write("symbol,event_ts,price,size\n")
        for minute in range(MINUTES):
            moment = format_timestamp(start + minute * MINUTE)
            file.writelines(f"{symbol},{moment},{prices[symbol][minute]:.2f},100\n" for symbol in symbols)
    return made
