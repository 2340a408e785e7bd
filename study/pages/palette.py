"""Colours and marks of what pages show, one for each thing on every page.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which people with any colour vision distinguish,
darker where they are text on white (a contrast of 4.5 at least). Each comes with a mark of its own, so that nothing is
shown by colour alone.
"""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """How one thing is drawn: a colour for light and dark pages, a symbol of plotly.js, a dash of its lines."""

    light: str
    dark: str
    symbol: str
    dash: str


CLASSES = {
    "ed": Look("#0072B2", "#56B4E9", "circle", "solid"),
    "decred": Look("#D55E00", "#E69F00", "diamond", "dash"),
    "interctc": Look("#009E73", "#3FD0A4", "square", "dot"),
}
STATES = {  # the word, never the colour alone, is what a table shows
    "complete": Look("#007A59", "#3FD0A4", "circle", "solid"),
    "pruned": Look("#6B6B6B", "#A5A5A5", "line-ew-open", "dot"),
    "running": Look("#0072B2", "#56B4E9", "triangle-right", "solid"),
    "waiting": Look("#8A6D00", "#F0E442", "hourglass", "dot"),
    "interrupted": Look("#8A6D00", "#F0E442", "hourglass", "dash"),
    "failed": Look("#B0006D", "#E58BC3", "x", "solid"),
    "infeasible": Look("#B0006D", "#E58BC3", "cross", "dot"),
}
EDITS = {  # of an alignment; each also has a form: struck out, underlined, an arrow
    "substitution": Look("#B84700", "#E69F00", "circle", "solid"),
    "insertion": Look("#0072B2", "#56B4E9", "circle", "solid"),
    "deletion": Look("#B0006D", "#E58BC3", "circle", "solid"),
}


def describe_palette() -> dict[str, dict[str, dict[str, str]]]:
    """All looks for a page's script: group -> name -> light, dark, symbol, dash."""
    groups = {"classes": CLASSES, "states": STATES, "edits": EDITS}
    return {group: {name: look._asdict() for name, look in looks.items()} for group, looks in groups.items()}
