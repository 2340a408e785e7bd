"""MLflow's own page of a study, in a real browser: what its first screen answers.

The views are written in a format that MLflow does not document, so the installed version is what is tested.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import stub_training
from browser import first_screen, needs_browser, open_page
from free_ports import choose_port
from mlflow import MlflowClient
from playwright.sync_api import Page
from ray_head import wait_until

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work, run_study
from study.tracking.mlflow_store import store_uri
from study.tracking.pages import wait_and_open
from study.tracking.views import TAG

FOLDER = Path("studies/probe")
STUDY: dict[str, Any] = {
    "recipe": {"base": "tiny", "set": {"training.epochs": 2, "training.seed": stub_training.VARIES}},
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 1]}},
    "trials": 2,
    "baselines": ["ed", "decred-paper"],
    "early_stopping": {"rule": "none"},
}
PATIENCE = 90_000  # milliseconds for a page on a busy machine


@contextmanager
def dashboard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The pages that the command prints, by their names, while it runs; a browser was opened on the first one."""
    command = [sys.executable, "-m", "study", "dashboard", str(folder), "--no-browser", "--port", str(choose_port())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            pages: dict[str, str] = {}
            while "charts" not in pages and "all runs" not in pages:
                line = process.stdout.readline()
                assert line, "the command has ended"
                if found := re.fullmatch(r"  (\w[\w ]*?) +(http://.*)", line.rstrip()):
                    pages[found[1]] = found[2]
            opened: list[str] = []
            monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
            first = next(iter(pages.values()))
            assert wait_and_open(first, PATIENCE / 1000), "the server does not answer"
            assert opened == [first]
            yield pages
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def read_screen(page: Page, text: str) -> str:
    """The first screen, once it shows a text and has loaded its rows."""
    page.get_by_text(text).first.wait_for(timeout=PATIENCE)
    assert wait_until(lambda: text in first_screen(page) and "Loading" not in first_screen(page), PATIENCE / 1000)
    return first_screen(page)


def shorten(figure: float) -> str:
    """As many digits of a figure as every column shows."""
    return f"{figure:.6g}"[:4]


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_browser
def test_the_first_screen_of_a_study_answers_its_question_and_shows_every_trial(
    ray_here: None, stub: Work, study_in: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_study(study_in(**STUDY), work=stub) == 0
    trials = Ledger.open(FOLDER).trials
    complete = [record for record in trials.values() if record.state is TrialState.COMPLETE]
    with dashboard(FOLDER, monkeypatch) as pages:
        assert list(pages) == ["verdict", "all trials", "in and out of domain", "failures", "charts"]
        with open_page(pages["verdict"]) as (page, _):
            screen = read_screen(page, "decred has a lower WER than ed, by ")
            assert "in_domain/wer" in screen
            assert all(f"{number:04d} confirms" in screen for number, one in trials.items() if one.confirms is not None)
        with open_page(pages["all trials"]) as (page, _):
            screen = read_screen(page, "dev/wer_final")
            assert all(f"{record.number:04d}" in screen for record in trials.values())
            assert all(shorten(record.metrics["dev/wer_final"]) in screen for record in complete)
            assert {"Run Name", "trial.state", "dev/wer_final", "chosen/dev/wer"} <= set(
                re.findall(r"Run Name|\S+", screen)
            )
        with open_page(pages["charts"]) as (page, _):
            screen = read_screen(page, "trial vs. dev/wer_final")
            assert "Trials in their order" in screen
            assert "best/dev/wer_final" in screen

        client = MlflowClient(store_uri(None, FOLDER))
        experiment = client.get_experiment_by_name("probe")
        for name in [name for name in experiment.tags if name.startswith(TAG)]:
            client.delete_experiment_tag(experiment.experiment_id, name)
    with dashboard(FOLDER, monkeypatch) as pages:
        assert list(pages) == ["all runs"]
        with open_page(pages["all runs"]) as (page, _):
            assert "0001 decred-paper" in read_screen(page, "0000 ed"), "a plain page, not without the trials"
