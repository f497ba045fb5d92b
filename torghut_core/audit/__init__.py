"""The audit: what was decided, ordered and done, for good, in a hash chain.

`MemoryAuditStore` and `SqlAuditStore` share what they record (`rows`) and what can be asked (`store`). SQLAlchemy takes
0.4 s to load, so it is loaded when a database is opened; Alembic, 0.6 s more, when one has to be migrated. Nothing here
decides or judges anything: it records, reads and checks the chain.
"""

from typing import TYPE_CHECKING, Any

from torghut_core.audit.explain import find_decision
from torghut_core.audit.memory import MemoryAuditStore

if TYPE_CHECKING:
    from torghut_core.audit.database import upgrade
    from torghut_core.audit.sql import SqlAuditStore

__all__ = ["MemoryAuditStore", "SqlAuditStore", "find_decision", "upgrade"]


def __getattr__(name: str) -> Any:
    if name == "SqlAuditStore":
        from torghut_core.audit.sql import SqlAuditStore

        return SqlAuditStore
    if name == "upgrade":
        from torghut_core.audit.database import upgrade

        return upgrade
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
