"""Lists in pages: newest first, at most `MAX_PAGE` rows of each answer."""

from __future__ import annotations

from typing import Annotated, Any

from litestar.params import Parameter

MAX_PAGE = 200
"""Most rows of one answer."""

MAX_ID = 2**63 - 1
"""Greatest number that a database keeps."""

Limit = Annotated[int, Parameter(ge=1, le=MAX_PAGE, description="most rows of the answer")]
Before = Annotated[int | None, Parameter(ge=1, le=MAX_ID, description="only rows with a lower `id`")]


def page(name: str, rows: list[dict[str, Any]], limit: int, key: str = "id") -> dict[str, Any]:
    """Answer with `limit` of `rows`, which are one more where there is a next page.

    Returns
    -------
    The rows under `name`; `next`, the `before` of the next page, None after the last one.
    """
    shown = rows[:limit]
    return {name: shown, "next": shown[-1][key] if len(rows) > limit else None}
