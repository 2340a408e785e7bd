"""The error browser as a page: figures by set, then a list of all utterances with their alignments.

The figures stand in the page's HTML and are seen without scripts; the list and the word tables are drawn from the
page's data by its scripts, and follow the filters.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from study.errors.content import Content
from study.errors.page_data import make_page_data
from study.errors.summary import Group, summarise_sets
from study.pages.page import Page, read_asset, render_page
from study.pages.palette import EDITS

SCRIPTS = ("store.js", "alignment.js", "list.js", "tables.js", "player.js", "controls.js")
MINUS = "−"
COMPARED = " Whether these models differ by more than chance is tested by <code>decred-study compare</code>."


def make_browser(content: Content, out: Path, title: str, embedded: Mapping[int, str] | None = None) -> str:
    """The page as the text of one HTML file, which will lie at `out`; `embedded` as in `make_page_data`."""
    return render_page(
        Page(
            title=f"Errors: {title}",
            body=_make_body(content, title),
            data=make_page_data(content, out, embedded),
            styles=(_make_colours(), read_asset("study.errors", "browser.css")),
            scripts=tuple(read_asset("study.errors", name) for name in SCRIPTS),
        )
    )


def _make_colours() -> str:
    light, dark = (
        "".join(f"--{name}: {getattr(look, mode)}; " for name, look in EDITS.items()) for mode in ("light", "dark")
    )
    return f":root {{ {light}}}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark}}} }}"


def _make_body(content: Content, title: str) -> str:
    systems = "".join(
        f"<li><b>{system.letter}</b> <bdi>{escape(system.name)}</bdi> "
        f'<span class="quiet small">{escape(str(system.path))}</span></li>'
        for system in content.systems
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in content.notes)
    return f"""<h1>Errors: <bdi>{escape(title)}</bdi></h1>
<ul class="systems">{systems}</ul>
<p class="about quiet">{len(content.utterances):,} utterances. WER in percent of the words of the references (N);
S substitutions, D deletions, I insertions.{COMPARED if len(content.systems) > 1 else ""}</p>
<div class="scroll">{_make_summary(content)}</div>
{f'<ul class="notes small">{notes}</ul>' if notes else ""}
{read_asset("study.errors", "browser.html")}"""


def _make_summary(content: Content) -> str:
    """The table of sets: WER of each system first, so that a phone shows all of them, then S, D and I."""
    letters = [system.letter for system in content.systems]
    rates = [f"WER {letter}" if len(letters) > 1 else "WER" for letter in letters]
    if len(letters) > 1:
        rates.append(f"{letters[0]} {MINUS} {letters[1]}")
    edits = [f"{kind} {letter}" if len(letters) > 1 else kind for letter in letters for kind in "SDI"]
    head = "".join(f'<th class="number">{name}</th>' for name in (*rates, *edits, "N", "utterances"))
    rows = "".join(_make_row(group) for group in summarise_sets(content))
    return f'<table id="summary"><thead><tr><th>set</th>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _make_row(group: Group) -> str:
    cells = ["–" if figures.wer is None else f"<b>{figures.wer:.2f}</b>" for figures in group.systems]
    if len(group.systems) > 1:
        cells.append("–" if group.difference is None else f"{group.difference:+.2f}".replace("-", MINUS))
    cells += [f"{count:,}" for figures in group.systems for count in figures.edits[:3]]
    words = max((figures.edits.length for figures in group.systems), default=0)
    cells += [f"{words:,}", f"{group.utterances:,}"]
    numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
    return f'<tr><th scope="row"><bdi>{escape(group.name)}</bdi></th>{numbers}</tr>'
