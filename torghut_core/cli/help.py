"""How `--help` looks: commands in groups, each with an example, and no Python types."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

EVERYDAY = "Everyday"
RESEARCH = "Research"
EMERGENCY = "Emergency"
MARKET_DATA = "Market data"
CATALOG = "Catalog and plugins"
MAINTENANCE = "Maintenance"


class Command(TyperCommand):
    """A command whose help shows no type of flags, which take no value, and of arguments, whose name says it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give the parameters, without the types."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands that prints its help, and exits with 0, where no command is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args`, or `--help` where there are none."""
        return super().parse_args(ctx, args or ["--help"])

    def get_params(self, ctx: Any) -> list[Any]:
        """Give the parameters, without the types."""
        return _without_types(super().get_params(ctx))


def _without_types(params: list[Any]) -> list[Any]:
    for param in params:
        if isinstance(param, TyperArgument):
            vars(param)["display_type_rich"] = lambda ctx: None  # noqa: ARG005
        elif param.is_flag:
            param.metavar = ""
    return params


def command(app: typer.Typer, example: str, *, name: str | None = None, panel: str | None = None) -> Any:
    """Add the decorated function to `app` as a command with an example in its help.

    Parameters
    ----------
    example : what one would type; several lines are several examples.
    name : of the command; the function's where None.
    panel : the group that `torghut --help` shows it in.
    """
    lines = "\n".join(f"- `{line}`" for line in example.splitlines())
    return app.command(name, cls=Command, rich_help_panel=panel, epilog=f"For example:\n\n{lines}")
