"""Why a decision was made, and its result: everything that was recorded about it, put together."""

from __future__ import annotations

from typing import Any

from torghut_core.audit.records import Records
from torghut_core.audit.rows import Row, as_json
from torghut_core.errors import NotFoundError

_NAMED = 5  # candidates that an error names


def find_decision(records: Records, text: str) -> dict[str, Any]:
    """Everything about one decision, as JSON values.

    Parameters
    ----------
    text : its `id`, its hash, its order's `client_order_id`, or the beginning of one of the latter two; also the whole
        `client_order_id` of an order that no decision led to, the newest one: a liquidation, which the venue made itself.

    Returns
    -------
    A dict with:

    - `decision`, None where there was none; its `signal` and `verdicts`, and `inputs`: what risk judged by, None where
      that was not recorded;
    - `reviews` of advisors;
    - `orders` that were made of it, in order: the legs of its bracket too, each with its `parent`; `execution` is the
      first of them, None without one; `events` are theirs, in order, and a fill has `fill_id`;
    - `replaced`: the order to which it gives other terms, as that is now; None where it is an order of its own;
    - `replacements`: the decisions that asked for other terms of one of these orders, in order;
    - `generation`: `number`, `digest`, `actor`, `outcome`, `created_at`, `plugins` with versions and code digests, the
      `strategy`'s entry and the entries of `risk`, each with parameters, version and code digest; None where it is not
      there.

    Raises
    ------
    NotFoundError : no decision matches `text`, or several do; the error lists them.
    """
    text = text.strip()
    try:
        decision = _find(records, text)
    except NotFoundError:
        orders = records.rows("executions", client_order_id=text, decision_hash="", newest_first=True, limit=1)
        if not orders:
            raise
        events = records.rows("execution_events", execution_id=orders[0]["id"])
        nothing = dict.fromkeys(("decision", "signal", "verdicts", "inputs", "replaced", "generation"))
        return nothing | {
            "reviews": [],
            "orders": [as_json(orders[0])],
            "execution": as_json(orders[0]),
            "events": [as_json(event) for event in events],
            "replacements": [],
        }
    key = {"account": decision["account"], "decision_hash": decision["decision_hash"]}
    orders = records.rows("executions", **key)
    events = [event for order in orders for event in records.rows("execution_events", execution_id=order["id"])]
    return {
        "decision": {k: v for k, v in as_json(decision).items() if k not in ("signal", "verdicts", "inputs")},
        "signal": decision["signal"],
        "verdicts": decision["verdicts"],
        "inputs": decision["inputs"],
        "reviews": [as_json(review) for review in records.rows("llm_decision_reviews", **key)],
        "orders": [as_json(order) for order in orders],
        "execution": as_json(orders[0]) if orders else None,
        "events": [as_json(event) for event in sorted(events, key=lambda event: int(event["id"]))],
        "replaced": _replaced(records, decision),
        "replacements": _replacements(records, orders, events),
        "generation": _generation(records, decision),
    }


def _replaced(records: Records, decision: Row) -> Row | None:
    name = decision["params"].get("replaces")
    found = records.rows("executions", account=decision["account"], client_order_id=name) if name else []
    return as_json(found[0]) if found else None


def _replacements(records: Records, orders: list[Row], events: list[Row]) -> list[Row]:
    asked = {event["execution_id"] for event in events if event["event"] == "replace"}  # most orders never are
    found = [
        row
        for order in orders
        if order["id"] in asked
        for row in records.replacements(order["account"], order["client_order_id"])
        if row["status"] != "denied"
    ]
    columns = ("id", "decision_hash", "decided_at", "params", "rationale", "status")
    return [
        {name: row[name] for name in columns} for row in map(as_json, sorted(found, key=lambda row: int(row["id"])))
    ]


def _find(records: Records, text: str) -> Row:
    if text.isdecimal() and len(text) < 19:  # an id; the beginning of a hash may look like one, and is tried next
        found = records.rows("trade_decisions", id=int(text))
        if found:
            return found[0]
    called = records.decisions_called(text, _NAMED + 1) if text else []
    decisions = [
        row
        for account, decision_hash in called
        for row in records.rows("trade_decisions", account=account, decision_hash=decision_hash)
    ]
    if not decisions:
        raise NotFoundError(f"no decision matches {text!r} (give its id, its hash or its client_order_id)")
    if len(decisions) > 1:
        names = "; ".join(
            f"{row['decision_hash'][:16]} ({row['account']}, {row['strategy_id']}, {row['symbol']}, id {row['id']})"
            for row in decisions[:_NAMED]
        )
        more = ", and more" if len(decisions) > _NAMED else ""
        raise NotFoundError(f"{text!r} is the beginning of several decisions: {names}{more} (give more characters)")
    return decisions[0]


def _generation(records: Records, decision: Row) -> dict[str, Any] | None:
    found = records.rows("catalog_generations", number=decision["generation"])
    if not found:
        return None
    row = as_json(found[0])
    plugins = row["content"].get("plugins", [])
    strategy = _named(row["content"].get("strategies", []), decision["strategy_id"])
    if strategy is not None:
        strategy.pop("given", None)
        strategy |= _code(strategy.pop("code", None) or _named(plugins, strategy.get("use"), kind="strategy"))
    rules = row["content"].get("risk", [])
    return {
        **{name: row[name] for name in ("number", "digest", "actor", "outcome", "created_at")},
        "plugins": plugins,
        "strategy": strategy,
        "risk": [rule | _code(_named(plugins, rule.get("use"), kind="risk rule")) for rule in rules],
    }


def _code(plugin: Row | None) -> Row:
    return (
        {name: plugin[name] for name in ("distribution", "version", "code_digest") if name in plugin} if plugin else {}
    )


def _named(entries: list[Row], name: str | None, **equal: Any) -> Row | None:
    wanted = {"name": name, **equal}.items()
    return next((dict(entry) for entry in entries if all(entry.get(key) == value for key, value in wanted)), None)
