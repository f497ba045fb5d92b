"""docs/admin-api.md has the routes, roles and metrics that there are. To renew: PYTHONPATH=tests python tests/core/admin/test_admin_docs.py"""

from support.docs import DOCS, blocks_of, has_blocks, table, text_of
from support.metrics import EVERY_METRIC
from torghut_core.admin.app import make_app
from torghut_core.admin.auth import Guard, Role
from torghut_core.installation.settings import Settings

PAGE = DOCS / "admin-api.md"

ROLES = {
    Role.VIEWER: "read, and check a catalog",
    Role.OPERATOR: "reload and roll back, stop and release trading, reconcile",
    Role.ADMIN: "the same as an operator: no route needs more yet",
}


def routes():
    """Every route with its role, and what its handler and the published description say of it."""
    app = make_app(None, Guard([], hosts=None, is_open=False))
    described = app.openapi_schema.to_schema()["paths"]
    for route in app.routes:
        for handler in route.route_handlers:
            for method in handler.http_methods - {"OPTIONS"} if route.path in described else ():
                role = handler.opt.get("role", Role.VIEWER)
                text = " ".join(described[route.path][method.lower()]["description"].split())
                yield f"`{method} {route.path}`", role.name.lower() if role else "open to all", text
    yield "`GET /openapi.json`", "viewer", "OpenAPI description of these routes."


def made():
    """What the tables of the page have to be."""
    return {
        "routes": table(("route", "role", "what it does"), *sorted(routes())),
        "roles": table(("role", "may"), *((f"`{role.name.lower()}`", ROLES[role]) for role in Role)),
        "metrics": table(
            ("metric", "means"), *((f"`torghut_{spec.name}`", spec.help) for spec in EVERY_METRIC.values())
        ),
    }


def test_page_has_the_tables_of_the_code():
    """The page's routes, roles and metrics are those of the code, with its words."""
    assert blocks_of(PAGE).keys() == made().keys()
    has_blocks(PAGE, made())


def test_page_names_every_setting():
    """Every setting of the admin API is explained."""
    page = text_of(PAGE)
    names = [name.upper() for name in Settings.model_fields if name.startswith(("admin_", "torghut_token"))]
    assert len(names) == 3
    assert not [name for name in names if name not in page]
