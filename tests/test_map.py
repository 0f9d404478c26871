"""The map: docs/map.md leads from a question to each file of the package."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A table row or a list item that starts with a path in backticks and goes on with the question.
ENTRY = re.compile(r"^(?:\||[-*])\s*`(skae/[^`]+\.py)`\s*(?:\||:)?\s*(.*?)\s*\|?$", re.MULTILINE)


def entries(text):
    """Return the pairs (path, question) of a map."""
    return ENTRY.findall(text)


def the_map():
    """Return the pairs of the map in docs/."""
    return entries((ROOT / "docs" / "map.md").read_text(encoding="utf-8"))


def test_every_file_is_on_the_map_once():
    """Each file of the package has one line, and each line has its file."""
    listed = [path for path, _ in the_map()]
    there = [path.relative_to(ROOT).as_posix() for path in (ROOT / "skae").rglob("*.py")]
    assert sorted(listed) == sorted(there)


def test_every_line_says_something():
    """Each file on the map comes with the question that it answers."""
    assert [path for path, question in the_map() if not question] == []


@pytest.mark.parametrize(
    "line", ["| `skae/_x.py` | Why? |", "- `skae/_x.py`: Why?", "* `skae/_x.py` Why?"]
)
def test_entries_are_read_from_tables_and_lists(line):
    """The reader of the map understands table rows and list items, and ignores other text."""
    text = f"# Map\n\nSee `skae/_y.py` for more.\n\n{line}\n"
    assert entries(text) == [("skae/_x.py", "Why?")]
