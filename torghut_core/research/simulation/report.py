"""The report of a simulation: the result, layer by layer, and the verdict with its codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from torghut_core.generation import Generation
from torghut_core.model.trading import ZERO
from torghut_core.research.live_day.tca import LATENCIES, by_symbol, latencies, percentiles, ratios
from torghut_core.research.simulation.artifacts import read_json, sha256_of, write_csv, write_json, write_text
from torghut_core.research.simulation.dataset import Dump
from torghut_core.research.simulation.evidence import LOT_COLUMNS, Evidence, Lineage, activities, closed_lots, gather
from torghut_core.research.simulation.isolation import Check
from torghut_core.research.simulation.plan import Plan
from torghut_core.timestamps import format_timestamp

SCHEMA = "torghut.simulation-report.v1"

REPORT = Path("report") / "simulation-report.json"


class Outcome(msgspec.Struct, frozen=True):
    """What a report is made of, besides the stores.

    Attributes
    ----------
    dump : the events that were played; None on a day without any.
    checks : of isolation, before and after.
    failure : why the run did not come to its end; "" where it did.
    seconds : how long it took.
    """

    dump: Dump | None
    checks: Sequence[Check]
    failure: str = ""
    seconds: float = 0.0


def verdict_codes(plan: Plan, outcome: Outcome, evidence: Evidence | None) -> dict[str, str]:
    """What is wrong, by code: ``FAIL`` or ``WARN``; nothing where all is well."""
    window, monitor = plan.manifest.window, plan.manifest.monitor
    codes: dict[str, str] = {}
    codes |= {f"isolation_{check.name.lower()}": "FAIL" for check in outcome.checks if not check.ok}
    if outcome.failure:
        codes["process_failed"] = "FAIL"
    dump = outcome.dump
    if dump is None or not dump.records:
        return codes | {"empty_day": "FAIL"}
    if dump.coverage_ratio < window.strict_coverage_ratio:
        codes["coverage_below_strict_ratio"] = "FAIL"
    if dump.covered_minutes < window.min_coverage_minutes:
        codes["coverage_below_minimum"] = "WARN"
    if evidence is None:
        return codes
    counts = layer_counts(evidence)
    least = {
        "ta_rows": 1,
        "trade_decisions": monitor.min_trade_decisions,
        "executions": monitor.min_executions,
        "execution_order_events": monitor.min_execution_order_events,
        "execution_tca_metrics": monitor.min_execution_tca_metrics,
    }
    codes |= {f"too_few_{name}": "FAIL" for name, number in least.items() if counts[name] < number}
    decided = {row["decision_hash"] for row in evidence.decisions}
    if any(row["decision_hash"] and row["decision_hash"] not in decided for row in evidence.orders):
        codes["executions_without_decision"] = "FAIL"
    if sum(row["filled_quantity"] > 0 for row in evidence.orders) != sum(
        cost.filled_qty > 0 for cost in evidence.costs
    ):
        codes["layers_disagree"] = "FAIL"
    if evidence.rows["microbars"] > evidence.rows["signals"]:
        codes["microbars_without_signal"] = "WARN"
    if not evidence.is_audit_whole:
        codes["audit_chain_broken"] = "FAIL"
    return codes


def layer_counts(evidence: Evidence) -> dict[str, int]:
    """How much each layer has: a run counts only where none of them is empty."""
    return {
        "ta_rows": evidence.rows["signals"],
        "trade_decisions": len(evidence.decisions),
        "executions": len(evidence.orders),
        "execution_order_events": len(evidence.events),
        "execution_tca_metrics": sum(cost.realized_shortfall_bps is not None for cost in evidence.costs),
    }


def write_report(plan: Plan, generation: Generation, outcome: Outcome) -> dict[str, Any]:
    """Write the activities, the tables and the report of a simulation that has ended; return the report.

    Raises
    ------
    StateError : a store cannot be read, or a file not be written.
    """
    is_played = outcome.dump is not None and outcome.dump.records > 0 and not outcome.failure
    evidence = gather(plan, generation) if is_played else None
    codes = verdict_codes(plan, outcome, evidence)
    levels = set(codes.values())
    verdict = "FAIL" if "FAIL" in levels else "WARN" if levels else "PASS"
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "run_metadata": {
            "run_id": plan.run_id,
            "dataset_id": plan.manifest.dataset_id,
            "trading_day": str(plan.manifest.window.trading_day),
            "digest": plan.digest,
            "catalog_digest": plan.catalog_digest,
            "generation_digest": generation.digest,
            "bus": "kafka" if plan.is_on_kafka else "tapes",
            "seconds": round(outcome.seconds, 1),
            "failure": outcome.failure,
        },
        "coverage": None if outcome.dump is None else outcome.dump.to_json(),
        "isolation": [msgspec.structs.asdict(check) for check in outcome.checks],
        "verdict": {"status": verdict, "codes": sorted(codes), "levels": codes},
    }
    folder = plan.folder
    if evidence is not None:
        report |= _results(plan, generation, evidence)
    report["artifacts"] = _artifacts(folder)
    write_json(folder / REPORT, report)
    write_text(folder / REPORT.with_suffix(".md"), _markdown(report))
    return report


def _results(plan: Plan, generation: Generation, evidence: Evidence) -> dict[str, Any]:
    """Write what the stores have, and sum it up."""
    folder, costs = plan.folder, evidence.costs
    for name, value in activities(evidence, Lineage(plan, generation)).items():
        write_json(folder / f"{name}-activity.json", value)
    symbols = {symbol for each in generation.strategies for symbol in each.symbols}
    multipliers = {symbol: generation.instruments[symbol].multiplier for symbol in symbols}
    lots = list(closed_lots(evidence, multipliers, plan.manifest.reporting))
    write_csv(folder / "report" / "trade-pnl.csv", LOT_COLUMNS, lots)
    latency_columns = ("client_order_id", "strategy_id", "symbol", *LATENCIES)
    write_csv(
        folder / "report" / "execution-latency.csv",
        latency_columns,
        ([getattr(cost, name) for name in latency_columns] for cost in costs),
    )
    reviews = Counter((row["advisor"], row["outcome"], row["code"]) for row in evidence.reviews)
    write_csv(
        folder / "report" / "llm-review-summary.csv",
        ("advisor", "outcome", "code", "count"),
        ([*key, count] for key, count in sorted(reviews.items())),
    )
    net = [lot[-1] for lot in lots]
    statuses = Counter(row["status"] for row in evidence.decisions)
    return {
        "funnel": layer_counts(evidence)
        | {
            "ta_microbars": evidence.rows["microbars"],
            "decisions_by_status": dict(statuses),
            "filled_executions": sum(cost.filled_qty > 0 for cost in costs),
        },
        "execution_quality": {
            "latencies": latencies(costs),
            "realized_shortfall_bps": percentiles(cost.realized_shortfall_bps for cost in costs),
            "divergence_bps": percentiles(cost.divergence_bps for cost in costs),
            "ratios": ratios(costs),
            "symbols": by_symbol(costs),
        },
        "pnl": {
            "closed_lots": len(lots),
            "gross": sum((lot[-3] for lot in lots), ZERO),
            "costs": sum((lot[-2] for lot in lots), ZERO),
            "net": sum(net, ZERO),
            "winners": sum(value > 0 for value in net),
            "open_after": _still_open(evidence),
        },
        "llm": {
            "reviews": len(evidence.reviews),
            "by_outcome": dict(Counter(row["outcome"] for row in evidence.reviews)),
        },
        "stability": {
            "is_audit_whole": evidence.is_audit_whole,
            "orders_by_state": dict(Counter(row["state"] for row in evidence.orders)),
        },
    }


def _still_open(evidence: Evidence) -> dict[str, Decimal]:
    held: dict[str, Decimal] = {}
    for cost in evidence.costs:
        held[cost.symbol] = held.get(cost.symbol, ZERO) + cost.signed_qty
    return {symbol: quantity for symbol, quantity in sorted(held.items()) if quantity}


def _artifacts(folder: Path) -> dict[str, str]:
    """The files of a run that are evidence, by name, each with its sha256."""
    names = ("*.json", "*.ndjson", "report/*.csv")
    kept = {"run-state.json", "run-manifest.json", "run-full-lifecycle-manifest.json", "day-report.json"}
    found = sorted(path for name in names for path in folder.glob(name) if path.name not in kept)
    return {str(path.relative_to(folder)): sha256_of(path) for path in found}


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a run; None where there is none."""
    found = read_json(folder / REPORT)
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def altered(folder: Path, report: dict[str, Any]) -> list[str]:
    """Artefacts of a report that are gone, or are not what they were."""
    return [
        name
        for name, digest in report["artifacts"].items()
        if not (folder / name).is_file() or sha256_of(folder / name) != digest
    ]


def _markdown(report: dict[str, Any]) -> str:
    """The report for people, a page of Markdown."""
    run, verdict, coverage = report["run_metadata"], report["verdict"], report["coverage"]
    lines = [f"# Simulation {run['run_id']}: {verdict['status']}", ""]
    lines += [f"- {code}: {verdict['levels'][code]}" for code in verdict["codes"]] or ["Nothing is wrong."]
    lines += ["", f"Dataset {run['dataset_id']}, day {run['trading_day']}, over {run['bus']}, {run['seconds']} s."]
    if run["failure"]:
        lines += ["", f"It did not come to its end: {run['failure']}"]
    if coverage is not None:
        span = f"{format_timestamp(coverage['first_event_ts'])} to {format_timestamp(coverage['last_event_ts'])}"
        lines.append(
            f"{coverage['records']:,} events from {span}; {coverage['covered_minutes']:,} of {coverage['minutes']:,} minutes."
        )
    if "funnel" in report:
        lines += ["", "| layer | count |", "| --- | ---: |"]
        lines += [f"| {name} | {count:,} |" for name, count in report["funnel"].items() if isinstance(count, int)]
        pnl = report["pnl"]
        lines += ["", f"{pnl['closed_lots']:,} lots closed, net {pnl['net']:.2f} ({pnl['winners']:,} winners)."]
        lines += ["", "| ms | p50 | p95 | p99 |", "| --- | ---: | ---: | ---: |"]
        for name, row in report["execution_quality"]["latencies"].items():
            numbers = ("-" if row[key] is None else f"{row[key]:,.1f}" for key in ("p50", "p95", "p99"))
            lines.append(f"| {name} | {' | '.join(numbers)} |")
    lines += ["", "## Isolation", ""]
    lines += [f"- {'ok' if check['ok'] else 'FAIL'} {check['name']}: {check['found']}" for check in report["isolation"]]
    return "\n".join(lines) + "\n"
