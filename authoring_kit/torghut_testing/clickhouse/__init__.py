"""ClickHouse's HTTP interface on loopback, over the embedded engine in a process of its own, with faults on demand.

Several processes can share one store on a machine without a ClickHouse server, and the way over HTTP is tested for real::

    with ClickHouseProcess(directory) as clickhouse:
        clickhouse.add(Fault.too_many_parts(statement="ta_signals", times=2))
        clickhouse.set_disks(default=(5 << 30, 100 << 30))
        ...  # point TA_CLICKHOUSE_URL at clickhouse.url

``python -m torghut_testing.clickhouse --path DIR`` is the same from a shell; scripts talk to it under ``/_fake/``.
"""

from torghut_testing.clickhouse.faults import Fault
from torghut_testing.clickhouse.process import ClickHouseProcess
from torghut_testing.clickhouse.request import Request

__all__ = ["ClickHouseProcess", "Fault", "Request"]
