"""Words: names and sentences use the field's own terms; these are the words they replace."""

import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ["skae", "tests", "docs", "examples"]
PAGES = ["README.md", "CHANGELOG.md", "Makefile", "pyproject.toml"]

# Parts of a name, and what to write instead.
IN_NAMES = {
    "borrowed": "isolated",
    "corridor": "package",
    "foreign": "custom",
    "from_net": "from_scaled",
    "judge": "validation",
    "judged": "validated",
    "lent": "isolated",
    "loan": "isolated",
    "net_units": "scaled_units",
    "odds": "probability",
    "settled": "schedules_finished",
    "slope": "gradient",
    "slopes": "gradients",
    "spared": "no_decay",
    "tape": "program",
    "to_net": "to_scaled",
    "waited": "patience_counter",
    "workplace": "workspace",
    "workshop": "package",
}
# Names of methods and attributes as a whole.
MEMBERS = {"link": "output_mean", "play": "replay", "turn": "backward"}
# Words and phrases in comments, docstrings, messages and pages.
IN_PROSE = {
    r"borrowed": "isolated",
    r"corridors?": "package",
    r"foreign": "custom",
    r"judge[ds]?": "validate, compare, score",
    r"lent|loans?": "isolated",
    r"net units": "scaled units",
    r"odds": "probability",
    r"settled": "schedules finished",
    r"spared": "left out",
    r"tapes?": "program",
    r"tells? whether": "return whether",
    r"waited": "patience",
    r"workplaces?": "workspace",
    r"workshops?": "package",
}


def words_of(name):
    """Return a name with its parts between underscores: `fromNet_2` becomes `_from_net_2_`."""
    return f"_{re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', name).lower()}_"


def in_name(name, *, member=False):
    """Return what of a name should be another word, with that word."""
    found = {word: better for word, better in IN_NAMES.items() if f"_{word}_" in words_of(name)}
    return found | ({name: MEMBERS[name]} if member and name in MEMBERS else {})


def in_prose(text):
    """Return what of a text should be other words, with these."""
    return {
        match[0].lower(): better
        for words, better in IN_PROSE.items()
        for match in re.finditer(rf"\b(?:{words})\b", text, re.IGNORECASE)
    }


def in_code(source):
    """Return what of Python code, its names, comments and strings, should be other words."""
    found, before = {}, ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            found |= in_name(token.string, member=before in (".", "def"))
        elif token.type not in (tokenize.OP, tokenize.NUMBER):
            found |= in_prose(token.string)
        before = token.string
    return found


def files():
    """Return the files whose words count: code and pages, this list itself left out."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found = [path for path in found if path.suffix in (".py", ".md") and "_build" not in path.parts]
    return sorted({*found, *(ROOT / page for page in PAGES)} - {Path(__file__)})


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words_are_those_of_the_field(path):
    """No file has a replaced word in its name, its identifiers or its sentences."""
    text = path.read_text(encoding="utf-8")
    found = in_code(text) if path.suffix == ".py" else in_prose(text)
    assert found | in_name(path.stem) == {}


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("odds_of_codes = 1", "odds"),
        ("def f(to_net): ...", "to_net"),
        ("class ForeignEncoder: ...", "foreign"),
        ("net.link.mean(x)", "link"),
        ("class Program:\n    def play(self): ...", "play"),
        ("x = 1  # the workplace of a fit", "workplace"),
        ('def f():\n    """Tells whether it is so."""', "tells whether"),
        ('raise ValueError(f"{x} is in net units")', "net units"),
    ],
)
def test_replaced_words_are_caught(source, word):
    """The checker finds them in names, comments, docstrings and messages."""
    assert list(in_code(source)) == [word]


@pytest.mark.parametrize(
    "source",
    [
        "x.add_(y)  # in place; the two take place in turn",
        "link = links[0]\nturn = 3",
        "judgement, to_network, taped = 1, 2, 3",
        '"""A slope of the loss, told apart from a plane."""',
    ],
)
def test_everyday_words_are_left_alone(source):
    """The same letters in another sense, or in a longer word, are no fault."""
    assert in_code(source) == {}
