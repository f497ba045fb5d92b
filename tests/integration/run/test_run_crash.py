"""`torghut run` is killed while it applies a catalog: the next start trades one catalog, never a mixture of two."""

import random
import signal
import time
from collections import Counter
from contextlib import closing

import pytest

from support.effort import many
from torghut_core.audit import SqlAuditStore

KILLS = many(10, quick=2)
"""How often each of the kernels is killed."""


class Witness:
    """Reads what a killed process left behind, row by row only once."""

    def __init__(self, kernel):
        self.path = kernel.state / "audit.db"
        self.seen = 0
        self.generations = {}

    def look(self):
        """Check what is new; the strategies of the newest generation, with their quantities."""
        with closing(SqlAuditStore(self.path)) as audit:
            assert audit.verify() == []
            for row in audit.rows("catalog_generations"):
                self.generations[row["number"]] = {
                    each["name"]: each["params"]["quantity"] for each in row["content"]["strategies"]
                }
            decisions = audit.rows("trade_decisions", after=self.seen)
        for row in decisions:
            self.seen = row["id"]
            quantities = self.generations[row["generation"]]  # its row is there
            if row["action"] == "buy":
                assert int(row["params"]["quantity"]) == quantities[row["strategy_id"]], row
        return self.generations[max(self.generations)]


@pytest.mark.examples
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(1, 4))])
def test_killed_while_it_reloads_it_starts_on_one_of_the_two(make_mounted, tmp_path, seed):
    """After kill -9 within 0.3 s of a swap the old or the new catalog is recorded, and the next start trades the new.

    Every decision belongs to a recorded generation, with its parameters, and the audit log is intact.
    """
    mounted = make_mounted(tmp_path)
    patience = random.Random(seed)
    witness = Witness(mounted)
    old, left = mounted.quantities, Counter()
    for number in range(1, KILLS + 1):
        new = (
            {"one": 10 * number, "two": 10 * number + 1}
            if number % 2
            else {"one": 10 * number, "three": 10 * number + 2}
        )
        mounted.grow(3)
        mounted.mount.swap(mounted.text(new))
        mounted.grow(3)
        time.sleep(patience.uniform(0, 0.3))
        assert mounted.send(signal.SIGKILL) == -signal.SIGKILL
        written = witness.look()
        assert written in (old, new)
        left["new" if written == new else "old"] += 1
        mounted.begin()
        assert mounted.quantities == new
        assert not mounted.status["degraded"]
        old = new
    print(f"written down when it was killed: {dict(left)}")  # noqa: T201 - the figure, for -rP
    assert mounted.send() == 0
    assert witness.look() == old


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        pytest.param("snyc", "trading.yaml:2:7: mode", id="misspelled", marks=pytest.mark.proof),
        pytest.param('"\\U00110000"', "trading.yaml:2:10: an escape", id="no character"),
    ],
)
def test_killed_while_the_catalog_is_wrong_it_starts_on_the_last_good_one(kernel, wrong, place):
    """The next start trades the last good generation, and reports the problem until the file is right."""
    kernel.begin()
    kernel.write({"one": 5, "two": 6})
    kernel.reaches(2)
    kernel.file.write_text(f"version: 1\nmode: {wrong}\n")
    kernel.until(lambda: kernel.status["degraded"])
    kernel.env["TRADING_STRATEGY_RELOAD_SECONDS"] = "0.3"
    assert kernel.send(signal.SIGKILL) == -signal.SIGKILL
    kernel.begin()
    assert kernel.quantities == {"one": 5, "two": 6}
    assert place in kernel.problems
    assert kernel.trade() == {"one": 2, "two": 2}
    code = kernel.codes
    kernel.write_plugin(text=kernel.FLIP.replace("first", "second"))
    kernel.until(lambda: kernel.codes != code)
    assert place in kernel.problems  # nothing is right by that
    kernel.write({"one": 5, "two": 6})
    kernel.until(lambda: not kernel.status["degraded"])
    assert kernel.trade() == {"one": 2, "two": 2}


def test_start_without_a_plugin_that_traded_last_goes_on_with_the_others(kernel):
    """A strategy whose plugin is missing is left out and reported; the others trade."""
    kernel.write_plugin("other", kernel.FLIP.replace('"flip"', '"other"'))
    kernel.write({"other": {"use": "other"}, "two": 2})
    kernel.begin()
    assert kernel.send() == 0
    (kernel.plugins / "other.py").unlink()
    kernel.begin()
    assert kernel.quantities == {"two": 2}
    assert "'other'" in kernel.problems
    assert kernel.trade() == {"two": 2}
    assert kernel.send() == 0
    kernel.file.write_text("neither\n")
    kernel.begin()
    assert kernel.quantities == {"two": 2}
    kernel.write_plugin("other", kernel.FLIP.replace('"flip"', '"other"'))
    kernel.write({"other": {"use": "other"}, "two": 2})
    kernel.until(lambda: len(kernel.quantities) == 2)
    assert kernel.trade() == {"two": 2, "other": 2}
