"""All that the admin API knows of a running kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Kernel(Protocol):
    """What the admin API shows and changes.

    Every method may be called from any thread, also while another one is under way, and returns JSON values. Times are
    RFC 3339 text. What is wrong with a request is raised as `InputError`, what is not there as `NotFoundError`, what
    cannot be done now as another `TorghutError`; their messages are shown to the caller.
    """

    def status(self) -> dict[str, Any]:
        """What trades now.

        Returns
        -------
        `generation`, `digest`, `since`, `actor`: what trades, from when on, and who brought it; `path`: of the catalog.
        `degraded` and `problems`: not all of the catalog could be taken up, and why.
        `pending`: changes that wait, each with `key`, `old`, `new`, `timing`, `effect`.
        `quarantined`: reason by name of the strategy; `restriction`: ``""``, ``"reduce_only"`` or ``"halt"``.
        `pinned`: rolled back, until the file changes; `is_polling`: the catalog's watcher is not working.
        `last_reload`: `at`, `outcome`, `successful`, `pause_ms` (how long the loop stood still, milliseconds).
        `strategies`: each with `name`, `use`, `version`, `code_digest`, `enabled`, `state` (``trading``, ``warming``,
        ``disabled``, ``quarantined`` or ``closing``), `symbols`, `params`, `on_remove`, and the numbers of `rows`,
        `decisions` and `fills` so far.
        """

    def catalog(self) -> dict[str, Any]:
        """Content of the catalog that trades, with its defaults."""

    def generations(self, limit: int, before: int | None) -> list[dict[str, Any]]:
        """At most `limit` generations, newest first, whose `number` is less than `before`."""

    def schema(self) -> dict[str, Any]:
        """JSON Schema of a catalog with the plugins that may be used."""

    def plugins(self) -> dict[str, Any]:
        """`plugins` that may be used, `failures` that were left out, and those `kept` of which newer code is broken."""

    def health(self) -> list[str]:
        """Reasons why it is not alive; none when it is."""

    def readiness(self) -> list[str]:
        """Reasons why it is not ready; none when it is."""

    def validate(self, text: str) -> dict[str, Any]:
        """`valid`, `problems`, and the `diff` of a catalog's YAML text against what trades."""

    def reload(self, actor: str) -> dict[str, Any]:
        """Read the catalog again, take it up and release quarantined strategies; blocks until that is done.

        Returns
        -------
        `generation`, `outcome`, `problems`.
        """

    def rollback(self, to: int | None, actor: str) -> dict[str, Any]:
        """Trade an earlier generation again, the one before where `to` is None; blocks and returns as `reload`.

        Raises
        ------
        NotFoundError : there is no such generation.
        """

    def metrics(self) -> Mapping[str, float | Mapping[str, float]]:
        """Counters (their names end in ``_total``) and gauges by name; a mapping is by the value of its one label."""
