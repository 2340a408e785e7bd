from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.study_process import CommandProcess

from cluster import embedded
from cluster.errors import ClusterError

BUSY = "The current node timed out during startup. This could happen because some of the raylet failed to startup"
WAITS = """
import time
from cluster import embedded
from cluster.connect import connect

embedded.END_SECONDS = 2.0
with connect(cpus=1, give_up=lambda reason: print(f"{{time.time() - killed:.0f}}", reason, flush=True)):
    embedded._list_own("{name}")[0].kill()
    killed = time.time()
    time.sleep(600)  # as in Ray's own code, for an answer
"""
# The head is gone for long before Ray has ended, as where the process is frozen meanwhile.
ENDS_SLOWLY = """
import time
import ray
from cluster import embedded
from cluster.connect import connect

shutdown = ray.shutdown
def end_slowly():
    embedded._list_own("gcs_server")[0].kill()
    time.sleep(3.0)
    shutdown()

embedded.LOOK_SECONDS, embedded.END_SECONDS, ray.shutdown = 0.1, 1.0, end_slowly
with connect(cpus=1):
    pass
print("ended in order")
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


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], CommandProcess]]:
    """Run a program; nothing of it is left behind."""
    monkeypatch.chdir(tmp_path)
    runs: list[CommandProcess] = []

    def start(program: str) -> CommandProcess:
        runs.append(CommandProcess([sys.executable, "-c", program]))
        return runs[-1]

    yield start
    for process in runs:
        process.close()


@pytest.mark.parametrize("name", embedded.NEEDED)
def test_a_process_that_waits_for_a_ray_that_has_ended_says_so_and_ends_with_all_that_it_started(
    name: str, run: Callable[[str], CommandProcess]
) -> None:
    process = run(WAITS.format(name=name))
    assert process.wait_for_end() == 1, process.output
    seconds, reason = process.output.splitlines()[-1].split(" ", 1)
    assert reason == f"Ray's process {name} on this machine has ended: it was killed, or memory ran out"
    assert int(seconds) < 30, "long before Ray's own minute"
    deadline = time.monotonic() + 10
    while (left := process.list_commands()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_a_ray_that_is_stopped_in_order_and_slowly_is_not_taken_for_one_that_has_ended(
    run: Callable[[str], CommandProcess],
) -> None:
    process = run(ENDS_SLOWLY)
    assert process.wait_for_end() == 0, process.output
    assert process.output.splitlines()[-1] == "ended in order"


def test_a_command_whose_ray_has_ended_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    embedded.print_reason(embedded.describe_ended("raylet"))
    assert capsys.readouterr().err == (
        "error: Ray's process raylet on this machine has ended: it was killed, or memory ran out; "
        "give the command again\n"
    )
