"""A study whose tracking server breaks after the start runs to its end, and MLflow gets its runs later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ledger_events import list_kinds
from mlflow import MlflowClient
from rich.console import Console
from typer.testing import CliRunner

from study.cli.main import app
from study.ledger.ledger import Ledger
from study.runner import Work, run_study
from study.tracking.tracker import Tracker


class Broken(BaseHTTPRequestHandler):
    """Answers the question whether it is there, and nothing else."""

    def do_GET(self) -> None:
        self._reply(200 if "experiments/search" in self.path else 500)

    def do_POST(self) -> None:
        self._reply(200 if "experiments/search" in self.path else 500)

    def _reply(self, status: int) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def broken_server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_study_ends_names_the_outdated_runs_resumes_without_a_server_and_is_sent_later(
    ray_here: None,
    stub: Work,
    study_in: Callable[..., Path],
    broken_server: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tracker.close, "__defaults__", (1.0,))
    uri = f"http://127.0.0.1:{broken_server.server_address[1]}"
    path = study_in(tracking=uri)
    console = Console(record=True, width=200)
    assert run_study(path, console=console, work=stub) == 0
    ledger = Ledger.open(Path("studies/probe"))
    events = list_kinds(ledger)
    assert events[-1] == "study_ended"
    count = len(ledger.trials) + 1  # and the study's own
    line = (
        f"{count} runs may not be up to date in MLflow at {uri}, which did not answer; "
        f"send them with: decred-study track {path} --flush"
    )
    assert line in console.export_text()

    broken_server.shutdown()
    broken_server.server_close()
    assert run_study(path, console=console, work=stub) == 0  # nothing left to do, and no server asked
    assert line in console.export_text()
    assert list_kinds(ledger) == events

    path.write_text(path.read_text().replace(uri, f"sqlite:///{path.parent}/later.db"))
    flushed = CliRunner().invoke(app, ["track", str(path), "--flush"], catch_exceptions=False)
    assert flushed.output.startswith(f"{count} runs sent to MLflow at sqlite")
    compared = CliRunner().invoke(app, ["track", str(path)], catch_exceptions=False)
    assert compared.output.startswith("all runs are up to date in MLflow at sqlite")
    client = MlflowClient(tracking_uri=f"sqlite:///{path.parent}/later.db")
    experiment = client.get_experiment_by_name("probe")
    assert experiment is not None
    shown = {
        run.data.tags.get("trial.state"): run.info.status for run in client.search_runs([experiment.experiment_id])
    }
    assert shown[None] == "FINISHED"
    assert shown["complete"] == "FINISHED"
