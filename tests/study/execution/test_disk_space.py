"""A disk is never filled by new trials: when they wait, what is shown, when the study stops; and the forecast."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from model.network.making import make_model
from model.recipe.files import named_recipe
from model.recipe.training import TrainingConfig
from model.training.loop import train
from study.config.disk import GIB, DiskSettings
from study.config.object_store import ObjectStoreSettings
from study.config.study_file import StudyFile
from study.execution.disk_forecast import (
    CHECKPOINTS,
    OPTIMISER_COPIES,
    check_disk,
    check_room,
    forecast_bytes,
    measure_weights,
)
from study.execution.disk_space import LOOK_SECONDS, MOST_BY_DEFAULT, DiskWatch, find_reserve, format_bytes
from study.execution.ended_trials import tidy_trial
from study.ledger.events import TrialEnded, TrialState
from study.ledger.ledger import Ledger

FOLDER = Path("/studies/s")
STUDY = StudyFile.model_validate({"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}})


@dataclass
class Disk:
    """Bytes of a disk."""

    total: int = 100 * GIB
    free: int = 50 * GIB


@dataclass
class Probe:
    """A study on such a disk, with a clock, and what its board showed."""

    disk: Disk
    settings: DiskSettings
    now: float = 0.0
    stopped: str | None = None
    is_paused: bool = False
    admitted: bool = True
    looks: int = 0
    shown: list[tuple[int, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = DiskWatch(
            FOLDER, self.settings, lambda *shown: self.shown.append(shown), self, lambda: self.now, self.measure
        )
        self.admission = self.watch.limit(self)

    def measure(self, folder: Path) -> Disk:
        self.looks += 1
        assert folder == FOLDER
        return self.disk

    def admits(self, running: int) -> bool:
        """What the cluster's capacity has to say."""
        return self.admitted

    def admits_after(self, seconds: float, running: int = 1) -> bool:
        self.now += seconds
        return self.admission.admits(running)


def open_probe(free_gib: float = 50.0, **settings: float) -> Probe:
    return Probe(Disk(free=round(free_gib * GIB)), DiskSettings.model_validate({"reserve_gib": 2.0} | settings))


def test_no_trial_starts_below_the_reserve_and_the_next_look_finds_what_was_freed() -> None:
    study = open_probe(1.5)
    assert not study.admits_after(0)
    study.disk.free = 3 * GIB
    assert not study.admits_after(LOOK_SECONDS / 2)
    assert study.admits_after(LOOK_SECONDS)
    assert study.looks == 2, "the disk is looked at once a second"


@given(st.lists(st.tuples(st.integers(0, 5 * GIB), st.booleans(), st.integers(0, 3)), max_size=20), st.floats(0.0, 4.0))
def test_a_trial_starts_exactly_where_there_is_space_and_the_cluster_has_room(
    steps: list[tuple[int, bool, int]], reserve: float
) -> None:
    study = open_probe(reserve_gib=reserve)
    for free, admitted, running in steps:
        study.disk.free, study.admitted = free, admitted
        assert study.admits_after(LOOK_SECONDS, running) == (admitted and free >= round(reserve * GIB))


def test_a_wait_for_space_is_shown_before_what_the_cluster_waits_for_and_until_it_is_over() -> None:
    study = open_probe()
    study.watch.show(2, "waiting for 1 CPU")
    study.admits_after(0)
    study.disk.free = round(1.5 * GIB)
    study.admits_after(LOOK_SECONDS)
    study.watch.show(2, "waiting for 1 CPU")
    study.disk.free = 3 * GIB
    study.admits_after(LOOK_SECONDS)
    study.watch.show(3, None)
    words = (
        "waiting for free space: the disk of /studies/s has 1.5 GiB free, and the last 2.0 GiB are left to trials that "
        "run (disk.reserve_gib)"
    )
    assert [text for text, _ in itertools.groupby(study.shown)] == [
        (2, "waiting for 1 CPU"),
        (2, words),
        (2, "waiting for 1 CPU"),
        (3, None),
    ]


def test_a_study_in_which_nothing_runs_stops_after_its_time_and_one_that_runs_waits_on() -> None:
    study = open_probe(1.0, wait_seconds=30.0)
    for _ in range(100):
        assert not study.admits_after(LOOK_SECONDS)
    assert study.stopped is None
    study.admits_after(LOOK_SECONDS, running=0)
    study.admits_after(29.0, running=0)
    assert study.stopped is None
    study.admits_after(1.0, running=0)
    assert study.stopped is not None
    assert study.stopped.startswith("waited 30 s (disk.wait_seconds): waiting for free space: the disk of /studies/s")


def test_a_study_that_is_paused_waits_for_ever_and_its_time_begins_when_it_is_resumed() -> None:
    study = open_probe(1.0, wait_seconds=30.0)
    study.is_paused = True
    for _ in range(10):
        assert not study.admits_after(29.0, running=0)
    study.is_paused = False
    study.admits_after(1.0, running=0)
    study.admits_after(29.0, running=0)
    assert study.stopped is None
    study.admits_after(1.0, running=0)
    assert study.stopped is not None


def test_the_time_begins_anew_when_space_was_freed() -> None:
    study = open_probe(1.0, wait_seconds=30.0)
    study.admits_after(0, running=0)
    study.disk.free = 3 * GIB
    assert study.admits_after(29.0, running=0)
    study.disk.free = GIB
    study.admits_after(1.0, running=0)
    study.admits_after(29.0, running=0)
    assert study.stopped is None


def test_a_disk_that_cannot_be_looked_at_holds_nobody_back(monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_probe(0.0)
    assert not study.admits_after(0)

    def fail(folder: Path) -> Disk:
        raise OSError

    monkeypatch.setattr(study.watch, "_measure", fail)
    assert study.admits_after(LOOK_SECONDS)


@pytest.mark.parametrize(
    ("given_gib", "total", "reserve"),
    [(None, 100 * GIB, MOST_BY_DEFAULT), (None, 20 * GIB, GIB), (0.0, 100 * GIB, 0), (5.0, 10 * GIB, 5 * GIB)],
)
def test_the_reserve_is_what_the_study_file_says_or_a_small_share(
    given_gib: float | None, total: int, reserve: int
) -> None:
    assert find_reserve(DiskSettings(reserve_gib=given_gib), total) == reserve


def test_weights_are_measured_without_making_them() -> None:
    recipe = named_recipe("tiny", "/speech")
    made = sum(tensor.nbytes for tensor in make_model(recipe).state_dict().values())
    assert measure_weights(recipe) == made


def test_the_forecast_counts_running_checkpoints_and_the_weights_that_are_kept() -> None:
    best = TrainingConfig()
    assert forecast_bytes(STUDY, best, 10, trials=100, confirmations=6, concurrency=2) == 10 * (7 * 2 + 100 + 6)
    few = STUDY.model_copy(update={"disk": DiskSettings(keep_best=3), "baselines": ("ed",)})
    assert forecast_bytes(few, best, 10, trials=100, confirmations=6, concurrency=2) == 10 * (7 * 2 + 7 + 6)
    assert forecast_bytes(few, best, 10, trials=4, confirmations=0, concurrency=1) == 10 * (7 + 4)


@pytest.mark.parametrize(("choose", "running"), [("last", 7), ("average_best", 6 + 5), ("ema", 4 * 2)])
def test_the_forecast_counts_the_epochs_that_an_average_is_made_of_and_the_moving_average(
    choose: Any, running: int
) -> None:
    training = TrainingConfig(choose=choose, average=5)
    assert forecast_bytes(STUDY, training, 10, trials=1, confirmations=0, concurrency=2) == 10 * (running * 2 + 1)


def weigh(folder: Path) -> int:
    """The bytes of the files of a folder, of several links to one file once."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({file.st_ino: file.st_size for file in files}.values())


def test_real_trainings_take_the_room_that_is_forecast_and_one_that_is_behind_leaves_no_weights(
    make_recipe, tmp_path: Path
) -> None:
    # Wide, so that all else in a file is small beside its tensors; no epoch is better than the first, whose weights are
    # then kept beside two later checkpoints.
    values = {"encoder.feed_forward": 8192, "optimiser.learning_rate": 1e-9}
    study = STUDY.model_copy(update={"disk": DiskSettings(keep_best=1), "baselines": ()})
    ledger = Ledger.create_or_open(tmp_path / "s", study, make_recipe(values), {})
    weights = measure_weights(ledger.base_recipe)
    assert weights is not None
    checkpoints, whole = list[list[int]](), list[int]()

    def measure(metrics: dict[str, float]) -> None:
        checkpoints.append([weigh(path) for path in (folder / "checkpoints").iterdir()])
        whole.append(weigh(folder))

    for number, (epochs, wer) in enumerate(((3, 20.0), (1, 10.0))):
        recipe, folder = make_recipe(values | {"training.epochs": epochs}), ledger.trial_folder(number)
        ledger.start_trial(number, recipe, {})
        train(recipe, folder, measure, score_tests=False)
        ledger.append(TrialEnded(number=number, state=TrialState.COMPLETE, metrics={"dev/wer": wer}))
        tidy_trial(ledger, number)
        assert weigh(folder) == pytest.approx(weights, rel=0.05)
    one = (1 + OPTIMISER_COPIES) * weights
    assert checkpoints[:3] == [pytest.approx([one] * count, rel=0.05) for count in (1, CHECKPOINTS, CHECKPOINTS)]
    # At the end, when what was chosen is there twice until the trial is tidied.
    needed = forecast_bytes(study, ledger.base_recipe.training, weights, 1, 0, concurrency=1)
    assert max(whole) == pytest.approx(needed, rel=0.05)
    assert weigh(ledger.trial_folder(0)) < 0.05 * weights, "the best trial's are kept in their place"


def test_a_study_that_will_fill_its_disk_gets_a_line_and_one_that_cannot_begin_is_refused() -> None:
    lines: list[str] = []

    def check(free_gib: float, keep_best: int | None = None) -> None:
        study = STUDY.model_copy(update={"disk": DiskSettings(keep_best=keep_best)})
        disk = Disk(free=round(free_gib * GIB))
        check_room(study, GIB, 40 * GIB, FOLDER, lines.append, lambda folder: disk)

    check(42.5)
    assert not lines
    check(41.0)
    assert lines == [
        "the weights of this study's trials will take up to 40.0 GiB, but the disk of /studies/s has 39.0 GiB for "
        "them; free some, or keep fewer with disk.keep_best, or no trial will start once it is full"
    ]
    check(3.0, keep_best=1)
    assert "has 1.0 GiB for them; free some, or no trial" in lines[1]
    words = "has 2.9 GiB free, but a checkpoint of one trial takes 3.0 GiB; free space, or set 'storage'"
    with pytest.raises(UserError, match=words):
        check(2.9)


def test_a_real_disk_without_room_for_one_checkpoint_is_refused_unless_weights_go_elsewhere(small_disk: Path) -> None:
    base, lines = named_recipe("tiny", "/speech"), list[str]()
    ledger = Ledger.create_or_open(small_disk / "s", STUDY, base, {})
    words = r"has \d+ KiB free, but a checkpoint of one trial takes 16.7 MiB; free space, or set 'storage'"
    with pytest.raises(UserError, match=words):
        check_disk(ledger, 8, 2, 1, lines.append)
    check_disk(ledger, 0, 0, 1, lines.append)
    store = ObjectStoreSettings(checkpoints="s3://bucket/weights")
    ledger.study = ledger.study.model_copy(update={"object_store": store})
    check_disk(ledger, 8, 2, 1, lines.append)
    assert not lines


def test_bytes_are_written_in_the_unit_that_fits() -> None:
    assert [format_bytes(count) for count in (300, 20 * 2**10, 300 * 2**20, 1.5 * GIB)] == [
        "0 KiB",
        "20 KiB",
        "300 MiB",
        "1.5 GiB",
    ]
