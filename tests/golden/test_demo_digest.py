"""The demo's outcome, as it was when it was last meant to change.

Origin: `torghut demo` on the project's own tape (see `catalog/tapes/README.md`). After a change that is meant to alter
decisions, orders or fills, run it again and write the new figures here, and say why in the changelog.
"""

import json
import subprocess
import sys
from pathlib import Path

from support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = {
    "events": 500_000,
    "late": 0,
    "duplicates": 0,
    "microbars": 36_434,
    "signals": 36_434,
    "decisions": 353,
    "denied": 160,
    "orders": 193,
    "fills": 193,
    "digest_begins": "b10b8e83b5520e98",
}


def test_demo_comes_to_the_same_on_every_machine(tmp_path):
    """The whole tape through the example catalog gives the recorded counts and digest."""
    command = [
        Path(sys.executable).parent / "torghut", "replay", ROOT / "catalog/tapes/es_20130901_20130903.parquet",
        "--catalog", ROOT / "catalog/trading.yaml", "--state", tmp_path, "--json",
    ]  # fmt: skip
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=True, timeout=2 * PATIENCE
    )
    result = json.loads(done.stdout)
    result["digest_begins"] = result["digest"][:16]
    assert {key: result[key] for key in EXPECTED} == EXPECTED
