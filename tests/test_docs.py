"""The links of the README and the docs resolve, and the examples of the pages that are complete programs run."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """The anchors that GitHub derives from a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    for link in LINK.findall(page.read_text()):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_lists_every_page():
    linked = set(LINK.findall((ROOT / "README.md").read_text()))
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked


@pytest.mark.parametrize(
    ("page", "num_blocks"),
    [
        ("coming_from_keras.md", 2),
        ("compression.md", 6),
        ("cross_modal.md", 1),
        ("curricula.md", 5),
        ("delegates.md", 1),
        ("export.md", 6),
        ("latency.md", 1),
        ("regimes.md", 4),
        ("surgery.md", 4),
        ("tasks.md", 2),
        ("transfer.md", 4),
    ],
)
def test_examples_run(page, num_blocks, tmp_path, monkeypatch):
    """The blocks of a page are one program; a comment below a `print` is its output."""
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), flags=re.S | re.M)
    assert len(code) == num_blocks
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n".join(code), page, "exec"), {})  # noqa: S102
    for output in re.findall(r"^print\(.*\n# (.*)$", "\n".join(code), flags=re.M):
        assert output in printed.getvalue().splitlines()
