"""Documents of research: what a content security policy allows is what stands in them, and nothing else."""

import base64
import hashlib
import re
from importlib.resources import files

import pytest

from torghut_core.errors import StateError
from torghut_core.research.pages.documents import write_document

TEMPLATES = files("torghut_core.research.pages") / "templates"
HOSTILE = "</title><script>document.title='owned'</script>"


def test_each_script_and_style_is_allowed_by_its_digest_and_no_other(tmp_path):
    """The policy names what the file has; the text of a name is escaped."""
    page = write_document(
        tmp_path / "new" / "page.html",
        "live_day.html",
        **{
            name: []
            for name in ("warnings", "counts", "differences", "symbols", "orders", "order_columns", "latencies")
        },
        title=HOSTILE,
        decided=HOSTILE,
        simulator="",
    ).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    written = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", page, re.DOTALL)
    digests = {"sha256-" + base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in written}
    assert set(re.findall(r"'(sha256-[^']*)'", policy)) == digests
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert HOSTILE not in page


@pytest.mark.parametrize("name", sorted(each.name for each in TEMPLATES.iterdir() if each.name.endswith(".html")))
def test_templates_have_nothing_that_the_policy_forbids(name):
    """No style and no script stands in an element, for the browser would leave it out."""
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    assert not re.search(r"\s(style|on\w+)=", text)
    assert name in ("document.html", "parts.html") or text.startswith('{% extends "document.html" %}')


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """The error has the path and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"page\.html: .*give another path"):
        write_document(tmp_path / "file" / "page.html", "document.html", title="A page")
