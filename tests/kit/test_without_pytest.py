"""What of the kit runs without the packages that only tests need."""

import subprocess
import sys

CODE = """
import sys

for name in ("pytest", "_pytest", "hypothesis"):
    sys.modules[name] = None  # an import of it fails

import torghut_testing
import torghut_testing.alpaca.__main__, torghut_testing.alpaca_data.__main__, torghut_testing.clickhouse
import torghut_testing.kafka, torghut_testing.live.__main__

assert torghut_testing.signal and torghut_testing.Rehearsal
try:
    torghut_testing.StrategyConformance
except ImportError:
    print("the suites need pytest")
"""


def test_stand_ins_and_builders_need_no_pytest():
    """Who runs a stand-in of a service installs nothing that only tests need; the suites alone do."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout == "the suites need pytest\n", done.stderr
