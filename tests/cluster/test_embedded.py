from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cluster import embedded
from cluster.errors import ClusterError

BUSY = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


WAITS = """
import os, time
from cluster import embedded
from cluster.connect import connect

embedded.END_SECONDS = 2.0
with connect(cpus=1, give_up=lambda reason: print(os.getpid(), f"{{time.time() - killed:.0f}}", reason, flush=True)):
    embedded._list_own("{name}")[0].kill()
    killed = time.time()
    time.sleep(600)  # as in Ray's own code, for an answer
"""


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[None]]:
    """One for each time that what was started is ended."""
    stops: list[None] = []
    monkeypatch.setattr(embedded, "stop", lambda: stops.append(None))
    monkeypatch.setattr(embedded, "_guards", [])
    yield stops
    for guard in embedded._guards:
        guard.stand_down()


def fail(*errors: Exception) -> Callable[[], None]:
    """A start that fails with these errors, and then succeeds."""
    left = list(errors)

    def init() -> None:
        if left:
            raise left.pop(0)

    return init


def test_a_ray_that_is_not_up_in_time_is_ended_and_started_again(stops: list[None]) -> None:
    embedded.start(fail(Exception(BUSY), Exception(BUSY)))
    assert len(stops) == 2


def test_a_machine_on_which_ray_is_never_up_in_time_is_refused_in_one_line(stops: list[None]) -> None:
    with pytest.raises(
        ClusterError, match=r"^Ray does not start on this machine: 3 times .* or run the study on"
    ) as refused:
        embedded.start(fail(*[Exception(BUSY)] * 3))
    assert "\n" not in str(refused.value)
    assert len(stops) == 3


def test_another_error_of_the_start_is_one_line_and_not_tried_again(stops: list[None]) -> None:
    with pytest.raises(ClusterError, match=r"^Ray does not start on this machine: no port is free$"):
        embedded.start(fail(RuntimeError("no port is free.\nmore of it")))
    assert len(stops) == 1


def wait_for_none(session: str) -> list[str]:
    """What still runs of a session, without processes that have ended and that init has not collected yet."""
    deadline = time.monotonic() + 10
    while True:
        command = ["ps", "--sid", session, "-o", "stat=,args="]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        left = [line for line in listed if not line.startswith("Z")]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


@pytest.mark.parametrize("name", embedded.NEEDED)
def test_a_process_that_waits_for_a_ray_that_has_ended_says_so_and_ends_with_all_that_it_started(name: str) -> None:
    command = [sys.executable, "-c", WAITS.format(name=name)]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, check=False)
    assert done.returncode == 1, done.stderr
    pid, seconds, reason = done.stdout.splitlines()[-1].split(" ", 2)
    assert reason == f"Ray's process {name} on this machine has ended: it was killed, or memory ran out"
    assert int(seconds) < 30, "long before Ray's own minute"
    assert wait_for_none(pid) == []
