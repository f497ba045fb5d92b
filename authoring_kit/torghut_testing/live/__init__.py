"""The live system rehearsed on one machine: stand-ins of Alpaca, Kafka and ClickHouse, and torghut's three processes.

``python -m torghut_testing.live`` plays a tape through all of it and holds all counts against each other. From Python::

    tape = make_tape(folder, None, minutes=4, speed=60, rate=300)
    assert rehearse(folder, tape).agrees

`LiveSystem` is the same without the play: six processes, to look at, to kill and to start again.
"""

from torghut_testing.live.processes import Died, Process
from torghut_testing.live.rehearsal import Counts, Outcome, rehearse
from torghut_testing.live.system import LiveSystem
from torghut_testing.live.tape import Tape, make_tape

__all__ = ["Counts", "Died", "LiveSystem", "Outcome", "Process", "Tape", "make_tape", "rehearse"]
