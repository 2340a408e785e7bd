"""A group of processes that train together, of which one hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import ReadersLostError
from model.runtime import rank, worker_group
from model.runtime.worker_group import WorkerError, run_group


def test_a_rank_that_hangs_does_not_end_before_the_others_have_kept_where_they_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_group, "STALL_SECONDS", 1.0)
    with pytest.raises(WorkerError, match=r"^worker 1 of 2: training made no progress for 5 s$"):
        run_group("hanging_rank", [str(tmp_path)], 2, tmp_path)
    assert "torch/distributed" in (tmp_path / "stacks-rank0.txt").read_text()


def test_readers_that_a_rank_has_lost_are_that_error_where_the_group_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(rank.FAILURES, str(tmp_path))
    rank._leave_failure(ReadersLostError("readers were lost"), 1, tmp_path)
    found = worker_group._find_error([1, 1], tmp_path)
    assert (type(found), str(found)) == (ReadersLostError, "readers were lost")
