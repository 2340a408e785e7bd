"""What a trial's driver learns of nodes that Ray drains."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from study.workers.draining import DrainWatch, list_draining_nodes

Make = Callable[[Callable[[], Mapping[str, float | None]]], DrainWatch]


@pytest.fixture
def make_watch() -> Iterator[Make]:
    made: list[DrainWatch] = []

    def make(list_nodes: Callable[[], Mapping[str, float | None]]) -> DrainWatch:
        made.append(DrainWatch(list_nodes, seconds=0.01))
        return made[-1]

    yield make
    for watch in made:
        watch.close()


def wait_for(watch: DrainWatch, *nodes: str) -> str:
    deadline = time.monotonic() + 30
    while (found := watch.describe(nodes)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_the_nearest_end_of_the_nodes_that_were_asked_for_is_told(make_watch: Make) -> None:
    now = time.time()
    watch = make_watch(lambda: {"a": now + 1000, "b": now + 500, "c": now + 5})
    assert re.fullmatch(r"Ray drains its node, which is taken in (49\d|500) s", wait_for(watch, "a", "b", "other"))
    assert watch.describe(["other"]) is None


def test_a_node_without_a_known_end_is_told_as_well(make_watch: Make) -> None:
    assert wait_for(make_watch(lambda: {"a": None}), "a") == "Ray drains its node"


def test_a_head_that_does_not_answer_for_a_while_is_asked_again(make_watch: Make) -> None:
    answers = iter([ConnectionError("no head"), {}, TimeoutError("no head")])

    def list_nodes() -> Mapping[str, float | None]:
        answer = next(answers, {"a": None})
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_for(make_watch(list_nodes), "a") == "Ray drains its node"


def test_an_embedded_ray_drains_nothing(ray_here: None) -> None:
    assert list_draining_nodes() == {}
