"""The README says what is true: its strategy loads, its commands exist, its links lead somewhere."""

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import typer.main
from typer.testing import CliRunner

from torghut_core.cli import app
from torghut_core.plugin_host import PluginHost

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_strategy_of_the_readme_is_a_plugin():
    """The thirty lines are a whole module that the host takes."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    module = ModuleType("acme_alpha")
    exec(compile(code, "README.md", "exec"), module.__dict__)
    host = PluginHost([("acme-alpha", module)])
    assert host.failures == []
    assert list(host.registry["strategy"]) == ["acme-breakout"]
    assert len(code.splitlines()) <= 32


def commands(group, prefix=""):
    for name, command in group.commands.items():
        yield f"{prefix}{name}"
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.stem
)
def test_commands_that_a_page_names_exist(page):
    """Every `torghut VERB` that the README or a page of the documentation names is a verb."""
    verbs = set(commands(typer.main.get_command(app)))
    for named in re.findall(r"`torghut ([a-z][a-z -]*[a-z])", page.read_text(encoding="utf-8")):
        words = named.split()
        assert words[0] in verbs or " ".join(words[:2]) in verbs, named


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_links_of_the_readme_lead_somewhere(link):
    """Each file that the README points to is there."""
    assert (ROOT / link).exists()


@pytest.mark.parametrize("verb", sorted(commands(typer.main.get_command(app))))
def test_every_verb_has_a_help_line_and_examples_that_parse(verb):
    """`--help` says what each verb does, and what is shown there can be typed as it stands."""
    command = typer.main.get_command(app)
    for word in verb.split():
        command = command.commands[word]
    assert command.help
    if hasattr(command, "commands"):
        return
    examples = re.findall(r"`(.*)`", command.epilog)
    assert examples
    for example in examples:
        words = shlex.split(example.partition("torghut ")[2].partition(" > ")[0])
        assert words[: len(verb.split())] == verb.split()
        command.make_context(verb, words[len(verb.split()) :]).close()  # parses, and runs nothing


def test_no_command_is_help():
    """Bare `torghut`, and a bare group, print their help, and that is no error."""
    runner = CliRunner()
    for arguments in ([], ["catalog"]):
        done = runner.invoke(app, arguments)
        assert done.exit_code == 0
        assert "Usage:" in done.output
