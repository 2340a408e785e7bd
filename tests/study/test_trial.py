from __future__ import annotations

from pathlib import Path

from ray.train import WorkerGroupError

from model.errors import NonFiniteLossError
from study.reports import REPORTS, keep_report, reports_in
from study.trial import reason_of


def test_the_reason_is_the_last_line_of_the_error_that_a_worker_raised() -> None:
    error = WorkerGroupError("long text", {0: ValueError("first line\nlast line")})
    assert reason_of(error) == "ValueError: last line"


def test_a_rank_that_only_lost_its_peer_is_not_the_reason() -> None:
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242")
    error = WorkerGroupError("", {0: lost, 1: NonFiniteLossError("loss is nan at step 7")})
    assert reason_of(error) == "NonFiniteLossError: loss is nan at step 7"


def test_reports_are_read_back_up_to_a_torn_line(tmp_path: Path) -> None:
    assert reports_in(tmp_path) == []
    keep_report(tmp_path, {"epoch": 1, "dev/wer": 50.0})
    keep_report(tmp_path, {"epoch": 2, "dev/wer": 40.0})
    with (tmp_path / REPORTS).open("a") as stream:
        stream.write('{"epoch": 3, "dev/')
    assert [report["epoch"] for report in reports_in(tmp_path)] == [1, 2]
