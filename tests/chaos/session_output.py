"""What a session of a study, or another command, may print and leave behind when it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from chaos.study_process import CommandProcess

ENDS = (0, 1, 2, 130)  # exit codes of a session that was not killed: ended, had to stop, refused or full disk, stopped
GONE_WITHIN = 60.0  # seconds after a session's end, until nothing that it started still runs
NO_RESULT = "no trial completed; "


def assert_clean_output(output: str) -> None:
    """No traceback, not even one of a thread."""
    assert "Traceback" not in output, output


def assert_ended_well(driver: CommandProcess, was_asked: bool) -> None:
    """A known exit code, and where that is not 0 exactly one line that says why; where the study can be continued, also
    how. `was_asked`: whether a person has stopped the session, by a signal or a command."""
    code, output = driver.process.returncode, driver.output
    if code in (130, -signal.SIGTERM):
        assert was_asked, f"stopped, though nobody has asked for it:\n{output}"
        if not output:
            return  # before anything was opened or started
    assert code in ENDS, f"exit code {code}:\n{output}"
    lines = output.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    stops = [line for line in lines if line.startswith("stopped")]
    assert len(errors) == (code == 2), f"{len(errors)} lines of error:\n{output}"
    if code in (0, 2):
        assert not stops, f"exit code {code} of a session that was stopped:\n{output}"
    elif code == 130 or NO_RESULT not in output:
        assert len(stops) == 1, f"{len(stops)} lines on the stop:\n{output}"
        assert "ontinue with: decred-study run" in stops[0], stops[0]


def assert_command_ended_well(command: CommandProcess) -> None:
    """It has done its work, or was refused in one line."""
    code, output = command.process.returncode, command.output
    assert_clean_output(output)
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert (code, len(errors)) in ((0, 0), (2, 1)), f"exit code {code}, {len(errors)} lines of error:\n{output}"


def assert_nothing_runs(driver: CommandProcess) -> None:
    """What a session started ends with it."""
    deadline = time.monotonic() + GONE_WITHIN
    left: Sequence[str] = ()
    while time.monotonic() < deadline:
        if not (left := driver.list_commands()):
            return
        time.sleep(0.2)
    raise AssertionError(f"still running {GONE_WITHIN:g} s after the end: {left}")
