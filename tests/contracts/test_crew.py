"""One worker in the driver's process and a standing group under Ray Train keep the same contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import stub_training

from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.workers import crew as crew_module
from study.workers.crew import Crew
from study.workers.driver import open_crew
from study.workers.failure import Failure, FailureKind
from study.workers.in_process import InProcess
from study.workers.messages import CrewConfig, Done, Interrupted, Report, Task, ToWorker
from study.workers.placement import find_own_node

START_SECONDS = 300.0  # of a group, on a busy machine
CREWS = {"in process": 1, "group of two": 2}


def recipe(seed: int = stub_training.SUCCEEDS, **more: Any) -> Recipe:
    return with_values(named_recipe("tiny", "/speech"), {"training.epochs": 3, "training.seed": seed} | more)


@pytest.fixture(scope="module", params=CREWS)
def crews(request: pytest.FixtureRequest, ray_here: None, tmp_path_factory: Any) -> Iterator[Callable[[], Crew]]:
    """A crew that is used from test to test, as from trial to trial, and made again when it is of no more use."""
    count, made = CREWS[request.param], []
    driver = ray.remote(num_cpus=0)(_Holder).remote() if count > 1 else None

    def crew() -> Crew:
        if not made or not made[-1].usable:
            if made:
                made[-1].close()
            config = CrewConfig("stub_training:train", str(tmp_path_factory.mktemp("train")), count)
            made.append(InProcess("stub_training:train", 1) if driver is None else _Driver(driver, config))
        return made[-1]

    yield crew
    made[-1].close()
    if driver is not None:
        ray.kill(driver)


class _Driver:
    """A group in an actor that opens one after the other, as Tune's driver does, used as if it were here."""

    def __init__(self, actor: Any, config: CrewConfig) -> None:
        self._actor = actor
        ray.get(actor.open.remote(config))

    def __getattr__(self, name: str) -> Any:
        if name in ("usable", "count", "node_ids"):
            return ray.get(self._actor.read.remote(name))
        if name == "send_other":
            return lambda *given: ray.get(self._actor.send_other.remote(*given))
        return lambda *given, **named: ray.get(self._actor.call.remote(name, given, named))


class _Holder:
    def open(self, config: CrewConfig) -> None:
        # News of the other worker ends the wait for it, and comes late on a busy machine.
        crew_module.GATHER_SECONDS = crew_module.LOSS_SECONDS = 30.0
        self._crew = open_crew(config)

    def read(self, name: str) -> Any:
        return getattr(self._crew, name)

    def send_other(self, rank: int, recipe: str) -> None:
        self.send_other_in(self._crew, rank, recipe)

    @staticmethod
    def send_other_in(crew: Crew, rank: int, recipe: str) -> None:
        """One of the workers gets another recipe, as if its version of the code read another one."""
        send = crew._send

        def send_altered(to: int, message: ToWorker) -> None:
            altered = to == rank and isinstance(message, Task)
            send(to, replace(message, recipe=recipe) if altered else message)  # type: ignore[arg-type]

        crew._send = send_altered  # type: ignore[method-assign]

    def call(self, name: str, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return getattr(self._crew, name)(*given, **named)


def begin(crew: Crew, folder: Path, of: Recipe) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    crew.begin(Task(of.model_dump_json(), of.hash, str(folder), parts_file=str(parts_file(folder))))


def parts_file(folder: Path) -> Path:
    return folder.parent / "parts.json"


def rest(crew: Crew) -> list[Any]:
    """Everything until the recipe's end, every report answered."""
    messages: list[Any] = []
    while not messages or isinstance(messages[-1], Report):
        if messages:
            crew.answer(proceed=True)
        happened = crew.next(START_SECONDS)
        assert happened is not None, f"nothing came after {messages}"
        messages.append(happened)
    return messages


def epochs(messages: list[Any]) -> list[float]:
    """The epochs that were reported, without the final figures, which come after the last one."""
    reports = [message.metrics for message in messages if isinstance(message, Report)]
    return [metrics["epoch"] for metrics in reports if "finished" not in metrics]


def test_recipe_after_recipe_is_trained_by_the_same_workers(crews: Callable[[], Crew], tmp_path: Path) -> None:
    for name in ("first", "second"):
        crew = crews()
        begin(crew, tmp_path / name, recipe())
        messages = rest(crew)
        assert epochs(messages) == [1, 2, 3]
        assert isinstance(messages[-1], Done)
        assert messages[0].metrics["ranks"] == crew.count
        assert parts_file(tmp_path / name).is_file(), "training got its path"
        assert crew.usable


def test_an_epoch_whose_report_is_not_answered_when_the_crew_is_closed_is_reported_again(
    crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew = crews()
    begin(crew, tmp_path / "closed", recipe())
    assert isinstance(crew.next(START_SECONDS), Report)
    crew.close()
    crew = crews()
    begin(crew, tmp_path / "closed", recipe())
    assert epochs(rest(crew)) == [1, 2, 3]


def test_a_trial_that_is_stopped_at_a_report_leaves_its_workers_ready(
    crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew = crews()
    begin(crew, tmp_path / "stopped", recipe())
    assert isinstance(crew.next(START_SECONDS), Report)
    crew.stop()
    assert crew.usable
    begin(crew, tmp_path / "stopped", recipe())
    assert epochs(rest(crew)) == [2, 3], "it did not go on where it was stopped"


def test_a_trial_that_is_interrupted_is_left_by_all_its_workers_which_take_the_next_one(
    crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew = crews()
    assert not crew.interrupt(), "there is nothing to leave"
    begin(crew, tmp_path / "left", recipe(**{"training.epochs": 1000}))
    reached = 0
    while not isinstance(happened := crew.next(START_SECONDS), Interrupted):
        assert isinstance(happened, Report)
        reached = int(happened.metrics["epoch"])
        crew.answer(proceed=True)
        assert crew.interrupt()
    assert happened == Interrupted(f"after epoch {reached}", *find_own_node())
    assert crew.usable
    begin(crew, tmp_path / "next", recipe())
    assert epochs(rest(crew)) == [1, 2, 3], "the request was for the trial before"


def test_a_loss_that_is_no_number_fails_the_trial_and_keeps_the_workers(
    crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew = crews()
    begin(crew, tmp_path, recipe(stub_training.NON_FINITE))
    assert rest(crew)[-1] == Failure(
        FailureKind.NON_FINITE, "NonFiniteLossError: loss is nan at step 7", *find_own_node()
    )
    assert crew.node_ids == {find_own_node()[1]}
    assert crew.usable
    assert "loss is nan at step 7" in (tmp_path / "error-0.txt").read_text()


# From here on each test breaks its group. Those above come first because a start of a group takes seconds.
# A worker in the driver's process dies with it, which the study sees: tests/chaos/test_kill_workers.py.
@pytest.mark.parametrize("crews", ["group of two"], indirect=True)
def test_a_worker_that_is_killed_is_lost_and_its_trial_goes_on_with_others(
    crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew = crews()
    begin(crew, tmp_path, recipe(stub_training.DIES_ONCE))
    failure = rest(crew)[-1]
    assert failure.kind is FailureKind.LOST
    assert "worker 0 of 2 was lost" in failure.reason
    assert (failure.node, failure.node_id) == find_own_node()
    crew = crews()
    begin(crew, tmp_path, recipe(stub_training.DIES_ONCE))
    assert epochs(rest(crew)) == [2, 3]


@pytest.mark.chaos
@pytest.mark.parametrize("crews", ["group of two"], indirect=True)
def test_a_sum_that_was_left_half_done_where_memory_ran_out_does_not_reach_the_next_recipe(
    crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew = crews()
    begin(crew, tmp_path / "too-large", recipe(stub_training.LEAVES_A_SUM))
    assert rest(crew)[-1].kind is FailureKind.OUT_OF_MEMORY
    # The next sum says whether a worker is to stop: that of worker 1 would be met by worker 0's.
    begin(crews(), tmp_path / "next", recipe())
    messages = rest(crews())
    assert epochs(messages) == [1, 2, 3]
    assert isinstance(messages[-1], Done)


@pytest.mark.parametrize(
    ("seed", "failure"),
    [
        (stub_training.RAISES, Failure(FailureKind.ERROR, "ValueError: of two lines")),
        pytest.param(
            stub_training.DISK_FULL,
            Failure(FailureKind.DISK_FULL, "OSError: [Errno 28] No space left on device"),
            marks=pytest.mark.slow,  # a group of two starts again after it
        ),
    ],
)
def test_an_error_in_training_is_reported_in_one_line(
    seed: int, failure: Failure, crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew = crews()
    begin(crew, tmp_path, recipe(seed))
    assert rest(crew)[-1] == replace(failure, node=find_own_node()[0], node_id=find_own_node()[1])
    assert not crew.usable


@pytest.mark.slow
def test_a_worker_of_any_rank_that_has_another_recipe_than_was_proposed_is_found_out(
    crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew, other = crews(), recipe(**{"optimiser.learning_rate": 0.5})
    rank = crew.count - 1  # the others have the right one
    if isinstance(crew, _Driver):
        crew.send_other(rank, other.model_dump_json())
    else:
        _Holder.send_other_in(crew, rank, other.model_dump_json())
    begin(crew, tmp_path, recipe())
    failure = rest(crew)[-1]
    assert failure.kind is FailureKind.ERROR
    assert f"worker {rank} has recipe {other.hash}, but {recipe().hash} was proposed" in failure.reason
    assert (failure.node, failure.node_id) == find_own_node()
    assert not crew.usable


@pytest.mark.slow
def test_workers_that_do_not_see_the_studys_folder_fail_before_they_train(
    crews: Callable[[], Crew], tmp_path: Path
) -> None:
    crew, of, missing = crews(), recipe(), tmp_path / "not-mounted"
    task = Task(
        of.model_dump_json(), of.hash, str(missing / "trials" / "0000"), study_folder=str(missing), study_id="a"
    )
    crew.begin(task)
    failure = rest(crew)[-1]
    assert failure.kind is FailureKind.STORAGE
    assert failure.reason == (
        f"node {failure.node} does not see the study's folder {missing} (No such file or directory): mount it there"
    )
    assert not missing.exists()
    assert not crew.usable
