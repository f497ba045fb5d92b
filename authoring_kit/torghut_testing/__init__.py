"""Conformance checks, fakes and builders for authors of Torghut plugins."""
