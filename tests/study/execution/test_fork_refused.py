"""A fork that is refused or fails halfway leaves everything as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from study.execution import fork
from study.execution.fork import fork_study
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger

ROOT = Path(__file__).parents[3]
WriteStudy = Callable[..., Path]


def test_an_existing_study_is_not_changed(old: Ledger, write_study: WriteStudy) -> None:
    before = [path.read_bytes() for path in old.log.files()]
    with pytest.raises(UserError, match=r"studies/old holds a study already; give the new study another name in old"):
        fork_study(old, Path("old.yaml"), print)
    assert [path.read_bytes() for path in old.log.files()] == before
    new = write_study("new")
    Path("studies/new").mkdir()
    Path("studies/new/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"studies/new holds other files; give the new study another name"):
        fork_study(old, new, print)


def test_a_folder_with_only_a_lock_file_is_free(old: Ledger, write_study: WriteStudy) -> None:
    with hold_lease(Path("studies/new")):
        pass
    new = Ledger.open(fork_study(old, write_study("new"), print))
    assert len(new.trials) == 4


def fail_at_third_trial(end: Callable[[], None]) -> None:
    """Let a fork copy two trials, then call `end`, which kills the process or raises."""
    copied, copy = list[object](), fork._copy_trial

    def copy_two(*arguments: Any) -> None:
        if len(copied) == 2:
            end()
        copied.append(arguments)
        copy(*arguments)

    fork._copy_trial = copy_two  # type: ignore[assignment]


def test_a_full_disk_leaves_nothing_of_the_fork(
    old: Ledger, write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fork, "_copy_trial", fork._copy_trial)  # restored after the test
    fail_at_third_trial(fail)
    with pytest.raises(UserError, match=r"studies/new cannot be written \(No space left on device\)"):
        fork_study(old, write_study("new"), print)
    assert [path.name for path in Path("studies").iterdir()] == ["old"]


def test_a_killed_fork_leaves_no_study_and_the_next_fork_succeeds(old: Ledger, write_study: WriteStudy) -> None:
    path = write_study("new")
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from test_fork_refused import fail_at_third_trial; from study.execution.fork import fork_study\n"
        "from study.ledger.ledger import Ledger\n"
        "fail_at_third_trial(lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        "fork_study(Ledger.open(Path('studies/old')), Path('new.yaml'), print)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(path.name for path in Path("studies").iterdir()) == [".new.fork", "old"]
    new = Ledger.open(fork_study(old, path, print))
    assert len(new.trials) == 4
    assert [event.kind for event in new.log.read()] == ["session_started", *["trial_imported"] * 4]
    assert sorted(path.name for path in Path("studies").iterdir()) == ["new", "old"]


def test_a_second_fork_under_the_same_name_is_refused_while_the_first_runs(
    old: Ledger, write_study: WriteStudy
) -> None:
    path = write_study("new")
    with hold_lease(Path("studies/.new.fork")):
        (Path("studies/.new.fork") / "theirs").write_text("")
        with pytest.raises(UserError, match=rf"is being run by process {os.getpid()}"):
            fork_study(old, path, print)
        assert Path("studies/.new.fork/theirs").exists()
