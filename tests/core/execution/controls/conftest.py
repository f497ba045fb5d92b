"""Audit databases of each kind, for what is kept in them beside a running kernel."""

import shutil

import pytest

from support.postgres import empty
from torghut_core.audit import SqlAuditStore


@pytest.fixture(scope="session")
def audited(make_database):
    return make_database()


@pytest.fixture
def postgres(audited):
    """The URL of an audit database without a control and without a lease."""
    empty(audited, "controls", "leases", "audit_log")
    return audited


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "audit.db"
    SqlAuditStore(path).close()
    return path


@pytest.fixture
def sqlite(template, tmp_path):
    """The URL of an empty audit database."""
    shutil.copy(template.with_suffix(".head"), tmp_path)
    return f"sqlite:///{shutil.copy(template, tmp_path)}"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request):
    """An audit database of each kind."""
    return request.getfixturevalue(request.param)
