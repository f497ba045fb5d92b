"""What `docs/contributing.md` says of the layout is so."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
PACKAGES = [path.parent.name for path in sorted((ROOT / "torghut_core").glob("*/__init__.py"))]


def test_every_package_has_its_row_in_the_order_of_the_layers():
    """A contributor finds each package of the kernel, from the command line down to the words."""
    rows = re.findall(r"^\| `torghut_core/(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == PACKAGES
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    floor = {name.strip(): number for number, layer in enumerate(layers) for name in layer.split("|")}
    assert [floor[row] for row in rows] == sorted(floor[row] for row in rows)


def test_every_path_exists():
    """No page, folder or file that it names was moved away."""
    named = re.findall(r"`((?:torghut_core|plugins|authoring_kit|tests|benchmarks)(?:/[\w.]+)*)`", PAGE)
    linked = [f"docs/{page}" for page in re.findall(r"\]\(([\w-]+\.md)\)", PAGE)]
    assert named
    assert linked
    assert [path for path in [*named, *linked] if not (ROOT / path).exists()] == []


def test_every_package_says_what_it_never_does():
    """The docstring of a package says what lives there, and what never does."""
    for name in PACKAGES:
        text = (ROOT / "torghut_core" / name / "__init__.py").read_text(encoding="utf-8")
        docstring = re.match(r'"""(.+?)"""', text, re.DOTALL)
        assert docstring, f"torghut_core/{name} has no docstring"
        assert re.search(r"\b(never|no|nothing)\b", docstring[1], re.IGNORECASE), f"torghut_core/{name}: {docstring[1]}"
