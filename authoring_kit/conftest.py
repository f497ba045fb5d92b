"""The templates are packages of their own: their tests run in `tests/kit`, where they are put together."""  # noqa: INP001 - for pytest, no module

collect_ignore = ["torghut_testing/templates"]
