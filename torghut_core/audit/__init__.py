"""The audit: what was decided, ordered and done, for good, in a hash chain.

An `AuditStore` is a `Journal` (what the trading loop records), `Records` (what can be read of it), and what a process
keeps to resume. It lives in memory or in a database, and both share how records become rows. SQLAlchemy takes 0.4 s to
load, so it is loaded when a database is opened; Alembic, 0.6 s more, when one has to be migrated. Nothing here decides
or judges: the audit records, reads and checks its chain.
"""

from typing import TYPE_CHECKING, Any

from torghut_core.audit.explain import find_decision
from torghut_core.audit.listing import list_rows
from torghut_core.audit.memory import MemoryAuditStore
from torghut_core.audit.records import Records
from torghut_core.audit.rows import Row, as_json
from torghut_core.audit.store import AuditStore

if TYPE_CHECKING:
    from torghut_core.audit.database import upgrade
    from torghut_core.audit.sql import SqlAuditStore

__all__ = [
    "AuditStore",
    "MemoryAuditStore",
    "Records",
    "Row",
    "SqlAuditStore",
    "as_json",
    "find_decision",
    "list_rows",
    "upgrade",
]


def __getattr__(name: str) -> Any:
    if name == "SqlAuditStore":
        from torghut_core.audit.sql import SqlAuditStore

        return SqlAuditStore
    if name == "upgrade":
        from torghut_core.audit.database import upgrade

        return upgrade
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
