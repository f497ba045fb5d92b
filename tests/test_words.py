"""The words of `docs/lexicon.md` are the words of the project."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEFT_OUT = {"docs/lexicon.md", "CHANGELOG.md", "benchmarks/RESULTS.md", "tests/test_words.py"}
"""The lexicon itself, and files that record the past in the words of their time."""


def banned():
    """The words in the last column, "not", of the lexicon's tables."""
    lexicon = (ROOT / "docs" / "lexicon.md").read_text(encoding="utf-8")
    cells = [line.split("|")[-2] for line in lexicon.splitlines() if line.startswith("|")]
    words = {word.strip() for cell in cells for word in cell.split(",")}
    return sorted(word for word in words if word.strip("- ") and word != "not")


def pattern():
    """Any banned word, in a sentence or a name: also over a line's end, in a comment or string that goes on there."""
    gap = r"(?:[\s_#]|\"\s*f?\")+"
    words = "|".join(gap.join(map(re.escape, word.split())) for word in banned())
    return re.compile(rf"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE)


def texts():
    """The path and content of every file of the repository that is text."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in sorted(set(listed.stdout.splitlines()) - LEFT_OUT):
        if (ROOT / name).is_file():
            content = (ROOT / name).read_bytes()
            if b"\0" not in content:
                yield name, content.decode("utf-8", errors="replace")


def test_the_lexicon_bans_words():
    """The tables are read as they are meant: otherwise an edit of their form would let every word through."""
    assert {"mend", "blotter", "taken up", "what became of"} <= set(banned())
    assert all(word.replace(" ", "").isalpha() for word in banned())
    assert "not" not in banned()
    for text in ("what_is_told", "is\n    # told", '"is "\n    f"told"', "_MENDS = 1", "Is  told."):
        assert pattern().search(text), text
    assert not pattern().search("is toldx amendment recommends")


def test_no_banned_word_is_used():
    """A reader meets the field's words only: a banned word, in a file or its name, fails with its place."""
    word = pattern()
    found = []
    for name, text in texts():
        found += [f"{name}: {at[0]!r} in its name" for at in word.finditer(name)]
        found += [f"{name}:{text.count(chr(10), 0, at.start()) + 1}: {at[0]!r}" for at in word.finditer(text)]
    assert not found, "see docs/lexicon.md for the plain word:\n" + "\n".join(found)
