"""The addresses of MLflow's pages of a study, and opening one in a browser once its server answers.

As a program, `python -m study.tracking.pages URL` waits for the server and opens the page; it imports nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterable

_PATIENCE, _PAUSE = 60.0, 0.3  # seconds for a server to answer, and between two tries


def find_pages(uri: str, server: str, study: str) -> dict[str, str]:
    """The addresses of a study's pages by their names, the one to open first; of `server` alone where it has none.

    `uri` is the store, which is only read. A store that does not answer, or has no view, gives plain pages.
    """
    from study.tracking.mlflow_store import connect
    from study.tracking.views import ALL, NAMES, list_views, runs_page

    try:
        experiment = connect(uri).get_experiment_by_name(study)
    except Exception:  # MLflow, its database and its HTTP client each raise their own; the page says what it is
        experiment = None
    if experiment is None:
        return {"MLflow": f"{server.rstrip('/')}/"}
    views = list_views(experiment.tags)
    pages = {NAMES[key]: runs_page(server, experiment.experiment_id, key) for key in views}
    if not pages:
        return {"all runs": runs_page(server, experiment.experiment_id)}
    return pages | {"charts": runs_page(server, experiment.experiment_id, ALL, charts=True)}


def has_display() -> bool:
    """Whether a browser could show a window here."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def open_later(url: str) -> None:
    """Open a page in a browser when its server answers, from a process of its own, which ends by itself."""
    command = [sys.executable, "-m", "study.tracking.pages", url]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(command, **quiet)  # type: ignore[call-overload]


def wait_and_open(url: str, patience: float = _PATIENCE) -> bool:
    """Whether the server answered within `patience` seconds, as long as the process that started this one lives."""
    parent, deadline = os.getppid(), time.monotonic() + patience
    while time.monotonic() < deadline and os.getppid() == parent:
        try:
            urllib.request.urlopen(url.partition("#")[0], timeout=5).close()
        except OSError:
            time.sleep(_PAUSE)
            continue
        return webbrowser.open(url)
    return False


def describe_pages(pages: dict[str, str]) -> Iterable[str]:
    """A line for each page."""
    width = max(map(len, pages))
    return (f"{name:<{width}}  {url}" for name, url in pages.items())


if __name__ == "__main__":
    wait_and_open(sys.argv[1])
