"""The pages of the documentation: generated ones say what the code says, links lead somewhere, keys are explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import reference_pages

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("*/docs/*.md"))]
GENERATED = {path.relative_to(ROOT).as_posix(): make for path, make in reference_pages.PAGES.items()}


@pytest.mark.parametrize("page", GENERATED)
def test_a_generated_page_is_what_make_docs_writes(page: str) -> None:
    written = (ROOT / page).read_text(encoding="utf-8")
    assert written == reference_pages.finish(GENERATED[page]()), "run: make docs"


def test_every_key_is_explained() -> None:
    rows = [row for page in GENERATED for row in (ROOT / page).read_text(encoding="utf-8").splitlines()]
    keys = [row.split(" | ") for row in rows if row.startswith("| `")]
    assert len(keys) > 200
    assert not [cells[0] for cells in keys if not cells[-1].strip(" |") and not cells[1].startswith("keys below")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"@[A-Z]+@", text), "a placeholder was left"
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", without_code):
        target, _, heading = link.partition("#")
        if link.startswith("https://"):
            continue
        found = page if not target else (page.parent / target)
        assert found.exists(), link
        assert not heading or heading in _headings(found), link


def test_every_page_of_the_documentation_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = {target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", readme)}
    assert {page.relative_to(ROOT).as_posix() for page in PAGES[2:]} <= linked


def _headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
