"""The live system rehearsed on one machine: stand-ins of Alpaca, Kafka and ClickHouse, and torghut's three processes.

``python -m torghut_testing.live`` plays a tape through all of it and compares all counts. From Python::

    tape = make_tape(folder, None, minutes=4, speed=60, rate=300)
    assert rehearse(folder, tape).agrees

`open_live_system` starts the same six processes and leaves them to the caller: to inspect, to kill and to start again.
"""

from torghut_testing.live.processes import Died, Process
from torghut_testing.live.rehearsal import Counts, Outcome, rehearse
from torghut_testing.live.system import LiveSystem, open_live_system
from torghut_testing.live.tape import Tape, make_tape

__all__ = ["Counts", "Died", "LiveSystem", "Outcome", "Process", "Tape", "make_tape", "open_live_system", "rehearse"]
