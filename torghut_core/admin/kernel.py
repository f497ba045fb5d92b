"""All that the admin API knows of a running kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def gates(self) -> dict[str, str]:
        """What has to be so for it to make progress: by name the reason why it is not, "" where it is."""

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

    def trading(self) -> dict[str, Any]:
        """How trading stands: `account`, `broker`, `enabled`, `mode`, `control`, `restriction`, `unrecorded`, money,
        `positions` by strategy, `orders_working`, `generation`, loop time `now`, and `reconciliation` with a real venue.
        """

    def trading_health(self) -> dict[str, Any]:
        """`ok`, and `checks`: the reasons against, by what they are about."""

    def rows(
        self, table: str, *, symbol: str | None, since: str | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Rows of ``trade_decisions`` or ``executions`` of this account, newest first, whose `id` is less than `before`.

        Raises
        ------
        InputError : `since` is no time.
        """

    def kill(self, reason: str, *, flatten: bool, actor: str) -> dict[str, Any]:
        """Let no order leave any more, cancel what works, and close positions where `flatten`; needs no loop.

        Returns
        -------
        `control`; where it was `written`; `problems`, why not elsewhere; `orders_working`.
        """

    def unkill(self, reason: str, state: str, actor: str) -> dict[str, Any]:
        """Turn the control to a state, ``running`` and the like; returns as `kill`.

        Raises
        ------
        InputError : no reason, or no such state.
        StateError : not all places can be written, so the stricter state stays.
        """

    def reconcile(self, accept: Sequence[str], reason: str, actor: str) -> dict[str, Any]:
        """Hold the books against the venue's; take differences in the symbols of `accept` as somebody else's doing.

        Returns
        -------
        `at`, `news`, `adopted`, `lost` and `foreign` orders, `differences` by symbol, `unresolved` orders.

        Raises
        ------
        InputError : the broker is simulated, or there is no such difference.
        """

    def metrics(self) -> Mapping[str, float | Mapping[str, float]]:
        """Counters (their names end in ``_total``) and gauges by name; a mapping is by the value of its one label."""
