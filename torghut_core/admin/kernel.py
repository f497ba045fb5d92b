"""What the admin API needs of a running kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torghut_core.audit.listing import Kind
from torghut_core.telemetry.metrics import Measured


class Kernel(Measured, Protocol):
    """What the admin API shows and changes.

    Every method may be called from any thread, also while another one is running, and returns JSON values. Times are
    RFC 3339 text. A bad request raises `InputError`, something that does not exist `NotFoundError`, what cannot be done
    now another `TorghutError`; their messages are shown to the caller.
    """

    def status(self) -> dict[str, Any]:
        """What trades now.

        Returns
        -------
        `generation`, `digest`, `since`, `actor`: what trades, since when, and who changed it; `path`: of the catalog.
        `standby`: why this process does not trade it, ``""`` where it does.
        `degraded` and `problems`: a part of the catalog could not be applied, and why.
        `pending`: changes to be applied later, each with `key`, `old`, `new`, `timing`, `effect`.
        `quarantined`: reason by name of the strategy; `restriction`: ``""``, ``"reduce_only"`` or ``"halt"``.
        `pinned`: rolled back, until a file of the catalog changes; `is_polling`: the file watcher does not work.
        `last_reload`: `at`, `outcome`, `successful`, `pause_ms` (how long trading paused, milliseconds).
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
        """`plugins` that a catalog may use, `failures` to load, and those `kept` because their newer code is broken."""

    def health(self) -> list[str]:
        """Reasons why it is not alive; none when it is."""

    def readiness(self) -> list[str]:
        """Reasons why it is not ready; none when it is."""

    def gates(self) -> dict[str, str]:
        """The readiness checks by name, each with the reason why it fails, "" if it is ok."""

    def error_class(self) -> str:
        """The class of the check that fails, see `readiness_class`; "" where none does."""

    def validate(self, text: str) -> dict[str, Any]:
        """`valid`, `problems`, and the `diff` of a catalog's YAML text against what trades."""

    def reload(self, actor: str) -> dict[str, Any]:
        """Read the catalog again, apply it and release quarantined strategies; blocks until that is finished.

        Returns
        -------
        `generation`, `outcome`, `problems`.
        """

    def rollback(self, to: int | None, actor: str) -> dict[str, Any]:
        """Trade an earlier generation again, the one before if `to` is None; blocks and returns as `reload`.

        Raises
        ------
        NotFoundError : there is no such generation.
        """

    def trading(self) -> dict[str, Any]:
        """The state of trading: `account`, `broker`, `enabled`, `mode`, `control`, `restriction`, `unrecorded`, money,
        `positions` by strategy, `orders_working`, `generation`, loop time `now`, and `reconciliation` with a real venue.

        `last_run_at`: when the loop last came back; `last_reconcile_at`: with a real venue; `llm`: the AI advisor, which is
        not there yet. The rest is as in `TradingState`.

        `role` is ``trading``, ``standby`` or ``disabled``; `standby` has the `reason`, and the `holder` of the account's
        lease, `since` when and for how long (`age_seconds`); null while this process trades.
        """

    def trading_health(self) -> dict[str, Any]:
        """`ok`, and `checks`: by subject the reasons why not."""

    def rows(
        self,
        kind: Kind,
        *,
        symbol: str | None = None,
        strategy: str | None = None,
        since: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[dict[str, Any]]:
        """Decisions, orders or fills of this account, newest first, whose `id` is less than `before`, see `list_rows`.

        Raises
        ------
        InputError : `since` is not a time.
        """

    def kill(self, reason: str, *, flatten: bool, actor: str) -> dict[str, Any]:
        """Send no more orders, cancel open ones, and close positions if `flatten`; works while the loop is stuck.

        Returns
        -------
        `control`; where it was `written`; `problems`, why not elsewhere; `role`, as in `trading`; `orders_working`, the
        number of open orders.
        """

    def unkill(self, reason: str, state: str, actor: str) -> dict[str, Any]:
        """Change the control to a state other than ``halted``; returns as `kill`.

        Raises
        ------
        InputError : no reason, or no such state.
        StateError : not all places can be written, so the stricter state stays.
        """

    def reconcile(self, accept: Sequence[str], reason: str, actor: str) -> dict[str, Any]:
        """Compare our records with the venue's; accept the differences in the symbols of `accept` as outside trades.

        Returns
        -------
        `at`, `changes`, `adopted`, `lost` and `foreign` orders, `differences` by symbol, `unresolved` orders.

        Raises
        ------
        InputError : the broker is simulated, or there is no such difference.
        """
