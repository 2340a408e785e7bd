"""An HTML page as one file: style, scripts, data and charts inside, so that it can be sent, kept and read offline.

The numbers that a page draws lie in it as JSON, and its script draws from these alone, so they can be read out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

DATA_ID = "data"  # of the script element that holds the page's numbers
SHELL = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="decred-study">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{body}
<script type="application/json" id="{data_id}">{data}</script>
{scripts}
</body>
</html>
"""


@dataclass(frozen=True)
class Page:
    """What a page consists of.

    `body` is HTML whose texts are escaped already. `data` can be converted to JSON; numbers that are not finite become
    null, for which JSON has no other word. `styles` and `scripts` are texts, added after those that all pages have.
    """

    title: str
    body: str
    data: Mapping[str, Any] = field(default_factory=dict)
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    charts: bool = False  # whether plotly.js is put inside, 4.8 MB


def render_page(page: Page) -> str:
    """The page as the text of one HTML file."""
    scripts = [read_asset("study.pages", "page.js"), *page.scripts]
    if page.charts:
        scripts.insert(0, read_plotly())
    return SHELL.format(
        title=escape(page.title),
        style="\n".join([read_asset("study.pages", "page.css"), *page.styles]),
        body=page.body,
        data_id=DATA_ID,
        data=dump_for_html(page.data),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def dump_for_html(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element or starts a comment."""
    text = json.dumps(replace_non_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def replace_non_finite(value: Any) -> Any:
    """The same value with None for every number that is not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(item) for item in value]
    return value


def read_asset(package: str, name: str) -> str:
    """The text of a style or script that lies beside the code of a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def read_plotly() -> str:
    """The script of plotly.js, as Plotly's Python package brings it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
