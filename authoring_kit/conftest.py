"""The template is a package of its own: its test runs in `tests/conformance`, where that is put together."""  # noqa: INP001 - for pytest, no module

collect_ignore = ["template"]
