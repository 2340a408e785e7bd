from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster import embedded
from cluster.errors import ClusterError

BUSY = "The current node timed out during startup. This could happen because some of the raylet failed to startup"


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that what was started is ended."""
    stops: list[None] = []
    monkeypatch.setattr(embedded, "stop", lambda: stops.append(None))
    return stops


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
