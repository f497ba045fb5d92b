"""One rehearsal: play the tape, wait until everything has arrived everywhere, and compare all counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from torghut_core import parse_timestamp
from torghut_testing.live.ledger import KafkaLedger, StoreLedger, digest, quantiles
from torghut_testing.live.processes import Died
from torghut_testing.live.system import CATALOG, PARTITIONS, LiveSystem, open_live_system
from torghut_testing.live.tape import Tape

PATIENCE_S = 20.0
"""Seconds without a change after which nothing more is awaited."""

AFTER_CRASH_S = 75.0
"""The same after a crash: Kafka takes long to notice that a member of a group is gone."""

POLL_S = 0.05

QUOTED = "imbalance_"
"""Prefix of the columns that are made of quotes."""

WATERMARK_MS = 2000
"""Lag of the watermark of ``microbars``, milliseconds."""

READ = ("trades", "quotes", "microbars", "signals")
"""Channels whose topics are read."""

Step = Callable[[str, float], None]


class Counts(msgspec.Struct, kw_only=True):
    """Counts at each place. What a process counts itself starts again at 0 when it is restarted."""

    trades_sent: int
    quotes_sent: int
    played: int
    forwarded: int
    trades_in_kafka: int
    quotes_in_kafka: int
    trades_in_kafka_once: int
    quotes_in_kafka_once: int
    events_into_ta: int
    late: int
    duplicates: int
    excluded: int
    microbars_in_kafka: int
    signals_in_kafka: int
    microbars: int
    trades_in_microbars: int
    signals: int
    signals_into_trading: int
    late_in_trading: int
    duplicates_in_trading: int
    unpriced_in_trading: int
    decisions: int
    denied: int
    orders: int
    fills: int

    def disagreements(self, *, is_crashed: bool) -> list[str]:
        """The counts that do not agree, a line each; empty if all agree.

        After a crash events may be in Kafka twice. Then ``late`` cannot be added to the trades in microbars: a second copy
        of a trade is a duplicate only while its window is open, and late when it comes after that, as it does where the
        forwarder takes long to restart. Each trade has to be in a microbar. What a process had counted before it was
        killed is unknown.
        """
        pairs: list[tuple[str, int, str, int]] = [
            ("events played", self.played, "events of the tape", self.trades_sent + self.quotes_sent),
            ("different trades in Kafka", self.trades_in_kafka_once, "trades sent", self.trades_sent),
            ("different quotes in Kafka", self.quotes_in_kafka_once, "quotes sent", self.quotes_sent),
            ("signals stored", self.signals, "microbars stored", self.microbars),
            (
                "signals into trading, late and unpriced ones",
                self.signals_into_trading + self.late_in_trading + self.unpriced_in_trading,
                "signals stored",
                self.signals,
            ),
        ]
        if is_crashed:
            pairs.append(("trades in microbars", self.trades_in_microbars, "trades sent", self.trades_sent))
        else:
            in_kafka = self.trades_in_kafka + self.quotes_in_kafka
            pairs += [
                ("events forwarded", self.forwarded, "events played", self.played),
                ("events in Kafka", in_kafka, "events forwarded", self.forwarded),
                ("events into TA", self.events_into_ta, "events in Kafka", in_kafka),
                (
                    "trades in microbars, late ones, duplicates and excluded ones",
                    self.trades_in_microbars + self.late + self.duplicates + self.excluded,
                    "trades in Kafka",
                    self.trades_in_kafka,
                ),
                ("microbars in Kafka", self.microbars_in_kafka, "microbars stored", self.microbars),
                ("signals in Kafka", self.signals_in_kafka, "signals stored", self.signals),
            ]
        return [f"{what}: {left:,}, {other}: {right:,}" for what, left, other, right in pairs if left != right]


class Outcome(msgspec.Struct, kw_only=True):
    """The result of a rehearsal.

    Attributes
    ----------
    lags_ms : p50 and p99 in milliseconds, by the two moments between which they are.
    digests : of microbars and of signals, as they are in the store.
    other_quotes : signals whose spread is from a different quote than in the replayed history, a few at most. It is that
        of the last fresh quote when the window is closed, and the history does not know what closes a window live (a
        clock, an event that overtook others after a crash).
    disagreements : what does not agree; empty if all agrees.
    """

    tape: str
    seconds: float
    counts: Counts
    lags_ms: dict[str, dict[str, float]]
    digests: dict[str, str]
    other_quotes: int = 0
    disagreements: list[str]

    @property
    def agrees(self) -> bool:
        """Whether all counts, all rows and all processes are as they have to be."""
        return not self.disagreements


def rehearse(
    folder: Path,
    tape: Tape,
    *,
    name: str = "",
    catalog: Path = CATALOG,
    crash: bool = False,
    on_step: Step = lambda _what, _share: None,
) -> Outcome:
    """Run the live system on a tape, and stop it.

    Parameters
    ----------
    folder : where states and logs go.
    name : the tape's name in the outcome.
    crash : kill ``forward`` after a third of the tape and ``ta`` after two thirds, and start each again.
    on_step : called with what is being done, and the share of it that is done, 0 to 1.

    Raises
    ------
    Died : a process does not start, or ends by itself.
    """
    began, since = time.monotonic(), time.time_ns() - 5_000_000_000
    on_step("starting six processes", 0)
    with open_live_system(folder, tape, catalog) as system:
        watch = _Watch(system)
        try:
            _play(system, watch, on_step, is_crashed=crash)
            on_step("waiting until all of it has arrived", 1)
            counts = _wait_for_agreement(system, watch, is_crashed=crash)
            disagreements = counts.disagreements(is_crashed=crash)
            for process in (system.forward, system.ta, system.trading):
                if not disagreements:
                    process.wait_ready()
            decided = _decision_times(system)
            on_step("stopping, and deriving everything again from the venue's history", 1)
            for ended, code in system.stop().items():
                if code:
                    disagreements.append(f"torghut {ended} ended with {code} (see {ended}.log)")
            digests, other_quotes, differing = _compare_with_history(system, watch, since)
        finally:
            watch.close()
        return Outcome(
            tape=name,
            seconds=round(time.monotonic() - began, 1),
            counts=counts,
            lags_ms=watch.lags_ms(decided),
            digests=digests,
            other_quotes=other_quotes,
            disagreements=disagreements + differing,
        )


class _Watch:
    """The ledgers of a system, and the lags that follow from them."""

    def __init__(self, system: LiveSystem) -> None:
        read = [system.topics[channel] for channel in READ]
        self.kafka = KafkaLedger(system.bootstrap, dict.fromkeys(read, PARTITIONS))
        self.store = StoreLedger(system.store.url)

    def close(self) -> None:
        self.kafka.close()
        self.store.close()

    def lags_ms(self, decided: Mapping[tuple[str, int], int]) -> dict[str, dict[str, float]]:
        """Quantiles; the last two count from the moment at which a window may be closed.

        The windows at the end of the tape are left out: nothing but its tail closes them.
        """
        events = [lag for topic in list(self.kafka.topics.values())[:2] for lag in topic.lags_ms]
        last = max((end for _, end in self.store.seen.values()), default=0) - 3_000_000_000
        closed = {key: end / 1e6 + WATERMARK_MS for key, (_, end) in self.store.seen.items() if end <= last}
        return {
            "event to forwarded": quantiles(events),
            "window closed to signal stored": quantiles([self.store.seen[k][0] / 1e6 - at for k, at in closed.items()]),
            "window closed to decision": quantiles([at / 1e6 - closed[k] for k, at in decided.items() if k in closed]),
        }  # fmt: skip


def _play(system: LiveSystem, watch: _Watch, on_step: Step, *, is_crashed: bool) -> None:
    """Wait until the venue's tape is over; kill and restart processes on the way if wanted."""
    began, seconds = time.monotonic(), system.tape.seconds
    victims = [(seconds / 3, system.forward), (seconds * 2 / 3, system.ta)] if is_crashed else []
    for _ in system.venue.waiting(10 * seconds + 60):
        past = time.monotonic() - began
        if system.played is not None:
            return
        if victims and past >= victims[0][0]:
            victim = victims.pop(0)[1]
            on_step(f"killing torghut {victim.name}, and starting it again", past / seconds)
            system.crash(victim)
        system.check()
        watch.store.refresh()
        on_step("playing", min(past / seconds, 1.0))
    raise Died(f"the venue did not play its tape within {10 * seconds + 60:.0f} s: is torghut forward connected?")


def _wait_for_agreement(system: LiveSystem, watch: _Watch, *, is_crashed: bool) -> Counts:
    """Count until everything agrees, or nothing changes any more."""
    patience = AFTER_CRASH_S if is_crashed else PATIENCE_S
    counts, changed_at = _count(system, watch), time.monotonic()
    while counts.disagreements(is_crashed=is_crashed) and time.monotonic() - changed_at < patience:
        time.sleep(POLL_S)
        system.check()
        watch.store.refresh()
        now = _count(system, watch)
        if now != counts:
            counts, changed_at = now, time.monotonic()
    return counts


def _count(system: LiveSystem, watch: _Watch) -> Counts:
    watch.kafka.read()
    trades, quotes, microbars, signals = (watch.kafka.topics[system.topics[channel]] for channel in READ)
    stored = watch.store.counts()
    forward, ta, trading = system.forward.metrics(), system.ta.metrics(), system.trading.metrics()
    return Counts(
        trades_sent=sum(system.tape.trades.values()),
        quotes_sent=sum(system.tape.quotes.values()),
        played=system.played or 0,
        forwarded=_sum(forward, "forwarded_total", ("trades", "quotes")),
        trades_in_kafka=trades.records,
        quotes_in_kafka=quotes.records,
        trades_in_kafka_once=trades.once,
        quotes_in_kafka_once=quotes.once,
        events_into_ta=_sum(ta, "events_total"),
        late=_sum(ta, "late_total"),
        duplicates=_sum(ta, "duplicates_total"),
        excluded=_sum(ta, "excluded_total"),
        microbars_in_kafka=microbars.records,
        signals_in_kafka=signals.records,
        microbars=stored["microbars"],
        trades_in_microbars=stored["trades"],
        signals=stored["signals"],
        signals_into_trading=_sum(trading, "clickhouse_signals_rows_total"),
        late_in_trading=_sum(trading, "clickhouse_signals_late_total"),
        duplicates_in_trading=_sum(trading, "clickhouse_signals_duplicates_total"),
        unpriced_in_trading=_sum(trading, "clickhouse_signals_unpriced_total"),
        decisions=_sum(trading, "decisions_total"),
        denied=_sum(trading, "denials_total"),
        orders=_sum(trading, "orders_submitted_total"),
        fills=_sum(trading, "fills_total"),
    )


def _sum(metrics: Mapping[str, Mapping[str, float]], name: str, labels: Sequence[str] | None = None) -> int:
    """A metric summed over its labels, or over some of them."""
    values = metrics.get(name, {})
    return int(sum(values.get(label, 0) for label in (values if labels is None else labels)))


def _decision_times(system: LiveSystem) -> dict[tuple[str, int], int]:
    """When (wall time, ns) the first decision on each signal was recorded."""
    found: dict[tuple[str, int], int] = {}
    path: str | None = "/trading/decisions?limit=100"
    while path is not None:
        page: dict[str, Any] = system.trading.get(path)
        path = None if page["next"] is None else f"/trading/decisions?limit=100&before={page['next']}"
        for row in page["decisions"]:
            key = row["symbol"], parse_timestamp(row["event_ts"])
            found[key] = parse_timestamp(row["created_at"])  # the newest comes first, so the first decision stays
    return found


def _compare_with_history(system: LiveSystem, watch: _Watch, since: int) -> tuple[dict[str, str], int, list[str]]:
    """Digests of what is stored, signals with a different quote, and rows that differ from the replayed history."""
    digests, other_quotes, differing = {}, 0, []
    for kind, replayed in system.replay(since, watch.kafka.lanes.values()).items():
        rows, again = watch.store.table(f"torghut.ta_{kind}"), watch.store.table(replayed)
        digests[kind] = digest(rows)
        found = differences(rows, again)
        quoted = [key for key, columns in found.items() if all(name.startswith(QUOTED) for name in columns)]
        if len(quoted) <= max(len(system.tape.symbols), len(rows) // 10):
            other_quotes += len(quoted)
            found = {key: columns for key, columns in found.items() if key not in quoted}
        if found:
            key, columns = min(found.items())
            values = ", ".join(f"{name} {ours} against {theirs}" for name, (ours, theirs) in columns.items())
            differing.append(
                f"{kind}: {len(found):,} of {len(rows):,} rows differ from the replayed history, "
                f"the first of {' '.join(key)}: {values}"
            )
    return digests, other_quotes, differing


def differences(rows: Sequence[bytes], others: Sequence[bytes]) -> dict[tuple[str, str], dict[str, tuple[Any, Any]]]:
    """The rows that differ: by symbol and time, the columns with both values; None where a row is missing.

    Examples
    --------
    >>> row = b'{"symbol": "SOL/USD", "event_ts": "12:00", "c": 1}'
    >>> differences([row], [row.replace(b"1}", b"2}")])
    {('SOL/USD', '12:00'): {'c': (1, 2)}}
    """
    if list(rows) == list(others):
        return {}
    ours, theirs = (
        {(row["symbol"], row["event_ts"]): row for row in map(msgspec.json.decode, each)} for each in (rows, others)
    )
    found = {}
    for key in ours.keys() | theirs.keys():
        left, right = ours.get(key, {}), theirs.get(key, {})
        names = [name for name in {**left, **right} if left.get(name) != right.get(name)]
        if names:
            found[key] = {name: (left.get(name), right.get(name)) for name in names}
    return found
