"""The shell blocks of README and docs, as a reader pastes them: those of the README and of the way to a strategy run (in proofs), all of them parse."""

import os
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from socket import socket

import pytest
import typer.main

from support.docs import DOCS, ROOT, code_of, text_of
from support.waiting import PATIENCE
from torghut_core.cli import app

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
BLOCKS = [(page, block) for page in PAGES for block in code_of(page, "sh")]
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
MODULE = re.compile(r"python -m (torghut_testing\.\w+)(.*)")


def free_port():
    with closing(socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def block_with(text):
    """The one block of the README with this text."""
    (block,) = [block for page, block in BLOCKS if page.name == "README.md" and text in block]
    return block


@pytest.fixture
def checkout(tmp_path):
    """What a reader has after `make demo`: the catalog, and `.venv`."""
    (tmp_path / "catalog").symlink_to(ROOT / "catalog")
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    return tmp_path


def paste(block, checkout, ports):
    """Paste a block into a shell, on ports that are free here; what was printed once all of it has ended."""
    for shown, free in ports.items():
        assert str(shown) in block or shown == 8181
        block = block.replace(str(shown), str(free))
    block = re.sub(r"(torghut run --catalog \w+)", rf"\1 --port {ports[8181]}", block)
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    shell = subprocess.Popen(
        ["bash", "-s"],
        cwd=checkout,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(f"{block}wait\n", timeout=4 * PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)  # what a block that hangs has started
        raise
    assert "Traceback" not in printed, printed
    return printed


@pytest.mark.proof
def test_catalog_is_changed_while_it_trades(checkout):
    """One edit is applied, the one with an error is named, the rest trades on, and SIGTERM ends it well."""
    printed = paste(block_with("--catalog live &"), checkout, {8181: free_port()})

    assert "generation 2" in printed
    assert (
        "strategies[1].params.rsi_sel: unknown parameter of strategy 'macd-rsi' (did you mean 'rsi_sell'?)" in printed
    )
    assert re.search(r"ema-cross-es +ema-cross +0.1.0 +trading", printed)
    assert "stopped:" in printed


@pytest.mark.proof
def test_orders_go_to_the_stand_in_and_stop(checkout):
    """The stand-in of the venue needs no account; records agree, a stop is confirmed, doctor says so, and all of it ends."""
    printed = paste(block_with("torghut_testing.alpaca"), checkout, {8181: free_port(), 9000: free_port()})

    assert "Our records and the venue's agree." in printed
    assert "halted: fat finger" in printed
    assert "The kernel confirmed the stop. 0 open orders; positions: none." in printed
    assert re.search(r"FAIL .*halted: fat finger", printed)
    assert "the hash chain is intact" in printed
    assert "running: end of the exercise" in printed
    assert not (checkout / "paper").exists()


@pytest.mark.proof
def test_strategy_is_made_checked_replayed_and_packed(tmp_path):
    """In an empty folder, all blocks of the page but the one that installs: a package, gold, green tests, a replay, a wheel."""
    env = {
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", ""),
        "PYTEST_PLUGINS": "torghut_testing.pytest_plugin",  # as its entry point does, also where the kit was installed before
    }
    install, *blocks = code_of(DOCS / "write-a-strategy.md", "sh")
    assert "pip install" in install
    done = subprocess.run(
        ["bash", "-e"],
        check=False,
        input="\n".join(blocks),
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=8 * PATIENCE,
    )
    printed = done.stdout
    assert done.returncode == 0, printed + done.stderr
    assert "acme-alpha: gold" in printed
    assert "FAIL" not in printed
    assert re.search(r"\b3\d passed", printed), "pytest did not run the suite of the strategy"
    assert "valid: 1 strategy (acme-alpha-es)" in printed
    assert int(re.search(r"(\d+) fills", printed)[1]) > 0, printed
    assert (tmp_path / "acme-alpha" / ".torghut" / "report.html").exists()
    (wheel,) = (tmp_path / "acme-alpha" / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert {"acme_alpha/__init__.py", "acme_alpha/py.typed"} <= set(packed.namelist())


def commands(text):
    """The simple commands of a block, in words: without prompts, comments, assignments, pipes and redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:\||&&|;|&)(?:\s|$)|;\s", line.removeprefix("$ ")):
            try:
                words = shlex.split(re.split(r"\s[<>]", part)[0], comments=True)
            except ValueError:  # a program in quotes, or what a command has printed
                continue
            while words and (ASSIGNMENT.fullmatch(words[0]) or words[0] in ("export", "until", "do")):
                words = words[1:]
            if words:
                yield words


EVERY = [
    pytest.param(words, id=f"{page.stem}: {shlex.join(words)[:60]}")
    for page, block in BLOCKS
    for words in commands(block)
]


@pytest.mark.parametrize("words", [each for each in EVERY if Path(each.values[0][0]).name == "torghut"])
def test_every_torghut_command_of_a_page_parses(words):
    """Its verb and options exist, and take what is shown."""
    command, rest, verb = typer.main.get_command(app), words[1:], ""
    while hasattr(command, "commands"):
        verb, *rest = rest
        command = command.commands[verb]
    command.make_context(verb, rest).close()


@pytest.mark.parametrize("words", [each for each in EVERY if each.values[0][1:2] == ["-m"]])
def test_every_stand_in_of_a_page_takes_its_options(words):
    """Modules are there, and their help has each option that a page gives them."""
    done = subprocess.run([sys.executable, "-m", words[2], "--help"], capture_output=True, text=True, check=True)
    assert [word for word in words if word.startswith("--") and word not in done.stdout] == []


@pytest.mark.parametrize("words", [each for each in EVERY if each.values[0][0] == "make"])
def test_every_make_target_of_a_page_exists(words):
    """`make` knows what pages ask it for."""
    assert re.search(rf"^{words[1]}:", text_of(ROOT / "Makefile"), re.MULTILINE)
