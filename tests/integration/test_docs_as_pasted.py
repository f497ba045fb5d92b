"""The shell blocks of README and docs, as a reader pastes them: those of the README and of the way to a strategy run (in proofs), all of them parse.

They run in an empty folder with nothing of the project but its wheels: see `support.wheels`.
"""

import re
import shlex
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import typer.main

from support.docs import DOCS, PROFILE, ROOT, code_of, text_of
from support.wheels import Newcomer
from torghut_core.cli import app

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
BLOCKS = [(page, block) for page in PAGES for block in code_of(page, "sh")]
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


def named_blocks(page):
    """The files of Python that a page shows, by name."""
    return re.findall(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


@pytest.mark.proof
def test_readme_with_wheels_alone(tmp_path):
    """Its blocks, one after another in an empty folder; but for those that need a checkout (`make`) and an account.

    The demo comes to what is shown. One edit of a catalog is applied, the one with an error is named, and the rest trades on. The
    stand-in of the venue needs no account; records agree, a stop is confirmed, `doctor` says so, and all of it ends. The
    strategy is a plugin. A backtest and a sweep say that two days are too little, and are in the ledger. The rehearsal's counts agree (of two minutes, not of forty).
    """
    readme = ROOT / "README.md"
    demo, live, paper, rehearsal, research = (
        block for block in code_of(readme, "sh") if not block.startswith("make ") and "ALPACA_KEY_ID=..." not in block
    )
    newcomer = Newcomer(tmp_path, demo)
    pasted = partial(newcomer.paste, to_the_end=True)

    shown, why, *_ = code_of(readme, "text")
    printed = newcomer.paste(demo)
    assert [line for line in shown.splitlines() if line not in printed and "events/s" not in line] == []
    command, *lines = why.splitlines()
    printed = newcomer.paste(f"{command.removeprefix('$ ')}\n")
    assert [line for line in lines if line.removesuffix("...") not in printed] == []

    printed = pasted(live)
    assert "generation 3" in printed, printed  # the demo's was the first
    assert (
        "strategies[1].params.rsi_sel: unknown parameter of strategy 'macd-rsi' (did you mean 'rsi_sell'?)" in printed
    )
    assert re.search(r"ema-cross-es +ema-cross +0.1.0 +trading", printed)
    assert "stopped:" in printed

    printed = pasted(paper)
    assert "Our records and the venue's agree." in printed
    assert "halted: fat finger" in printed
    assert "The kernel confirmed the stop. 0 open orders; positions: none." in printed
    assert re.search(r"FAIL .*halted: fat finger", printed)
    assert "the hash chain is intact" in printed
    assert "running: end of the exercise" in printed
    assert not (newcomer.folder / "paper").exists()

    (code,) = code_of(readme, "python")
    (newcomer.folder / "acme").mkdir()
    (newcomer.folder / "acme" / "acme_breakout.py").write_text(code)
    assert "acme-breakout" in newcomer.paste("TORGHUT_PLUGIN_PATH=acme .venv/bin/torghut plugin list\n")

    printed = newcomer.paste(research)
    assert "equity 499,406.00 USD" in printed
    assert "4 of 4 sets" in printed
    assert printed.count("Too little to tell from luck") == 2
    assert "2 runs, 5 variants" in printed

    assert "torghut_testing.live" in rehearsal
    newcomer.keep_others()
    printed = newcomer.paste(rehearsal.replace("torghut_testing.live", "torghut_testing.live --minutes 2"))
    assert "All counts agree" in printed


@pytest.mark.proof
def test_from_nothing_to_a_wheel_that_trades_elsewhere(tmp_path):
    """All blocks of the page in an empty folder: a package, gold, green tests, a replay, new code while it runs, a wheel.

    The wheel is installed into another environment, and trades there. Then the tests of all pages for authors pass.
    """
    blocks = code_of(DOCS / "write-a-strategy.md", "sh")
    newcomer = Newcomer(tmp_path, blocks[0])
    printed = newcomer.paste("".join(blocks))
    made, elsewhere = newcomer.folder / "acme-alpha", newcomer.folder / "elsewhere"
    assert "acme-alpha: gold" in printed
    assert "FAIL" not in printed
    assert re.search(r"\b3\d passed", printed), "pytest did not run the suite of the strategy"
    assert "valid: 1 strategy (acme-alpha-es)" in printed
    assert int(re.search(r"(\d+) fills", printed)[1]) > 0, printed
    assert (made / ".torghut" / "report.html").exists()
    (wheel,) = (made / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert {"acme_alpha/__init__.py", "acme_alpha/py.typed"} <= set(packed.namelist())
        assert b"stop_atrs: float = param(3," in packed.read("acme_alpha/__init__.py")
    assert list((elsewhere / ".venv").glob("lib/*/site-packages/acme_alpha/__init__.py"))
    after = printed.partition("Successfully installed acme-alpha-0.1.0")[2]
    assert re.search(r"^strategy +acme-alpha .*acme-alpha +0\.1\.0", after, re.MULTILINE), after
    assert "the source has ended: 500,000 events" in after
    assert re.search(r"acme-alpha-es +buy +1 +ES +market .*filled", after)

    files = [(page.stem, *file) for page in DOCS.glob("*.md") for file in named_blocks(page)]
    assert len({name for _, name, _ in files}) == len(files), "two pages show a file of the same name"
    for folder, name, text in files:
        (newcomer.folder / "pages" / folder).mkdir(parents=True, exist_ok=True)
        (newcomer.folder / "pages" / folder / name).write_text(text)
    (newcomer.folder / "pages" / "conftest.py").write_text(PROFILE)
    printed = newcomer.paste(".venv/bin/python -m pytest -q -p no:cacheprovider pages\n")
    assert " passed" in printed


def test_from_a_file_to_a_backtest(tmp_path):
    """The block in an empty folder, but for its installation: an equity is traded by a catalog of twelve lines, and has its page."""
    (block,) = (each for each in code_of(DOCS / "data.md", "sh") if "pip install" in each)
    catalog = re.search(r"> acme.yaml <<'END'\n(.*?)^END$", block, re.MULTILINE | re.DOTALL)[1]
    assert len(catalog.splitlines()) == 12
    (tmp_path / ".venv").symlink_to(sys.prefix)
    pasted = block.partition("pip install")[2].partition("\n")[2]
    done = subprocess.run(["bash", "-e", "-s"], cwd=tmp_path, input=pasted, capture_output=True, text=True, check=True)
    assert "715 bars of 1Day of ACME" in done.stdout
    assert "11 orders, 11 fills" in done.stdout
    assert "5 round trips in" in done.stdout
    assert (tmp_path / "acme-backtest" / "page.html").exists()


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
