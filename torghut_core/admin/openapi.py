"""The published description of the admin API."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import cast

from litestar import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    RequestBody,
    Schema,
    SecurityScheme,
)


def openapi_config() -> OpenAPIConfig:
    """Give the settings of the description: ``/openapi.json``, texts from the handlers' docstrings, bearer tokens."""
    return OpenAPIConfig(
        title="Torghut admin API",
        version=version("torghut"),
        path="/openapi.json",
        render_plugins=[JsonRenderPlugin(path="/", media_type=MediaType.JSON)],
        use_handler_docstrings=True,
        components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"token": []}],
    )


def describe(schema: OpenAPI) -> None:
    """Add to the published description what the web framework cannot know: error bodies, probes, the YAML body."""
    text = Schema(type=OpenAPIType.STRING)
    error = Schema(type=OpenAPIType.OBJECT, properties={"error": text}, required=["error"])
    failed = OpenAPIResponse("What is wrong, and how to fix it.", content={"application/json": OpenAPIMediaType(error)})
    paths = schema.paths or {}
    for path, item in paths.items():
        for operation in filter(None, (item.get, item.post)):
            done = (operation.responses or {})["200"]
            operation.responses = {"200": done, "default": failed}
            if path in ("/healthz", "/readyz"):
                operation.responses = {"200": done, "503": done, "default": failed}
            if path in ("/healthz", "/readyz", "/metrics"):
                operation.security = []
    if validate := paths["/catalog/validate"].post:
        validate.request_body = RequestBody({"application/yaml": OpenAPIMediaType(text)}, required=True)
    if kill := paths["/trading/kill"].post:
        flatten = Schema(type=OpenAPIType.BOOLEAN, default=False)
        stop = Schema(type=OpenAPIType.OBJECT, properties={"reason": text, "flatten": flatten})
        kill.request_body = RequestBody({"application/json": OpenAPIMediaType(stop)}, required=False)
    for path in ("/catalog/rollback", "/trading/reconcile"):
        if optional := paths[path].post:
            optional.request_body = replace(cast("RequestBody", optional.request_body), required=False)
