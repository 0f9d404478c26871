"""The code on the pages of the documentation, run in order."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("page", ["guide", "migration"])
def test_blocks_run(page):
    """Blocks of a page use what the ones above define, and none fails."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    namespace = {"__name__": page}

    assert blocks
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), namespace)
