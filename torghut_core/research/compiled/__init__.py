"""Many parameter sets on one tape in compiled code, with the loop's own rules and the loop's own values.

`reasons` says what keeps a generation from it, and a `Simulator` trades the sets. Where a set leads to something that compiled
code does not say exactly, its `Run` says why it needs the loop (`needs_loop`): `run_backtest` is there for it.
"""

from torghut_core.research.compiled.reasons import reasons
from torghut_core.research.compiled.simulator import Fills, Run, Simulator

__all__ = ["Fills", "Run", "Simulator", "reasons"]
