"""Pages looked at in a real browser: Chromium without a window.

Used by tests alone. `needs_browser` skips where the browser is missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NO_BROWSER = "NOT TESTED: Chromium is not installed"
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
WIDE, NARROW = (1500, 1000), (400, 850)  # pixels of a screen and of a phone


@dataclass
class Seen:
    """What the browser complained of, and what it asked the network for, while a page was open."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # http(s) alone


@contextmanager
def open_page(address: str | Path, size: tuple[int, int] = WIDE, dark: bool = False) -> Iterator[tuple[Page, Seen]]:
    """A page in a browser of this size, a file or a URL; with what went wrong in it."""
    seen = Seen()

    def note_message(message: ConsoleMessage) -> None:
        if message.type == "error":
            seen.errors.append(message.text)

    def note_request(request: Request) -> None:
        if request.url.startswith("http"):
            seen.requests.append(request.url)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = browser.new_page(
                viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
            )
            page.on("console", note_message)
            page.on("pageerror", lambda error: seen.errors.append(str(error)))
            page.on("request", note_request)
            page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
            yield page, seen
        finally:
            browser.close()


def first_screen(page: Page) -> str:
    """The text that is seen without scrolling."""
    return str(
        page.evaluate(
            """() => [...document.body.querySelectorAll("*")]
            .filter((e) => e.children.length === 0 && e.textContent.trim())
            .filter((e) => { const b = e.getBoundingClientRect();
                             return b.width > 0 && b.top >= 0 && b.bottom <= innerHeight; })
            .map((e) => e.textContent.trim()).join(" ")"""
        )
    )


def is_wider_than_screen(page: Page) -> bool:
    """Whether the page as a whole has to be scrolled sideways."""
    return bool(page.evaluate("() => document.documentElement.scrollWidth > innerWidth + 1"))
