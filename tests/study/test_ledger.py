"""The ledger keeps what happened, whatever happens."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from model.recipe import Recipe
from model.recipe_files import named_recipe, read_recipe, with_values
from study.ledger import Ledger
from study.manifest import manifest
from study.study_file import StudyFile
from study.trial_record import State

TINY = with_values(named_recipe("tiny", "/speech"), {"data.fingerprint": "abc"})
CONTENT = {
    "name": "s",
    "corpus": "/speech",
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}},
}


def study(**changes: Any) -> StudyFile:
    return StudyFile.model_validate(CONTENT | changes)


def opened(folder: Path, recipe: Recipe = TINY, **changes: Any) -> Ledger:
    return Ledger.create_or_open(folder, study(**changes), recipe, {"python": "3"})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return opened(tmp_path / "s")


def start(ledger: Ledger, number: int) -> None:
    ledger.trial_started(number, TINY, {"ctc_weight": 0.3}, "ed" if number == 0 else None)


def test_a_trial_is_told_as_it_went(ledger: Ledger) -> None:
    before = time.time()
    start(ledger, 0)
    ledger.trial_epoch(0, 1, {"dev/wer": 80.0, "train/loss": 3.0})
    ledger.trial_epoch(0, 2, {"dev/wer": 60.0, "train/loss": 2.0})
    ledger.trial_ended(0, State.COMPLETE, metrics={"out_of_domain/wer": 90.0})
    record = ledger.trials()[0]
    assert (record.state, record.baseline, record.values) == (State.COMPLETE, "ed", {"ctc_weight": 0.3})
    assert record.recipe_hash == TINY.hash
    assert record.epochs[0] == {"epoch": 1, "dev/wer": 80.0, "train/loss": 3.0}
    assert record.metrics == {"dev/wer": 60.0, "train/loss": 2.0, "out_of_domain/wer": 90.0}
    assert record.started is not None
    assert record.ended is not None
    assert before - 1 <= record.started <= record.ended <= time.time() + 1


def test_the_trials_recipe_lies_in_its_folder(ledger: Ledger) -> None:
    start(ledger, 3)
    assert ledger.trial_folder(3) == ledger.folder / "trials" / "0003"
    assert read_recipe(ledger.trial_folder(3) / "recipe.yaml") == TINY


def test_the_reason_of_a_failure_is_kept(ledger: Ledger) -> None:
    start(ledger, 0)
    ledger.trial_ended(0, State.FAILED, reason="loss is nan at step 7")
    assert (ledger.trials()[0].state, ledger.trials()[0].reason) == (State.FAILED, "loss is nan at step 7")


def test_a_number_that_is_not_finite_is_null_in_the_file_and_nan_in_the_record(ledger: Ledger) -> None:
    start(ledger, 0)
    ledger.trial_epoch(0, 1, {"train/loss": math.inf})
    assert ledger.events()[-1]["metrics"] == {"train/loss": None}
    assert math.isnan(ledger.trials()[0].metrics["train/loss"])


def test_trials_that_ran_when_the_study_was_interrupted_or_died_are_interrupted(ledger: Ledger) -> None:
    start(ledger, 0)
    start(ledger, 1)
    ledger.trial_ended(0, State.PRUNED)
    ledger.append("study_interrupted")
    assert [trial.state for trial in ledger.trials().values()] == [State.PRUNED, State.INTERRUPTED]
    start(ledger, 1)
    assert ledger.trials()[1].state is State.RUNNING
    ledger.append("study_started")  # by another process: the one before was killed and could say nothing
    assert ledger.trials()[1].state is State.INTERRUPTED


def test_a_trial_that_goes_on_keeps_its_epochs_and_has_none_twice(ledger: Ledger) -> None:
    start(ledger, 0)
    for epoch in (1, 2, 3):
        ledger.trial_epoch(0, epoch, {"dev/wer": 90.0 - epoch})
    ledger.append("study_interrupted")
    start(ledger, 0)
    for epoch in (3, 4):  # epoch 3 had been told, but its checkpoint was not written yet
        ledger.trial_epoch(0, epoch, {"dev/wer": 50.0 - epoch})
    assert [(epoch["epoch"], epoch["dev/wer"]) for epoch in ledger.trials()[0].epochs] == [
        (1, 89.0),
        (2, 88.0),
        (3, 47.0),
        (4, 46.0),
    ]


def test_a_torn_last_line_is_left_out_and_cut_off_at_the_next_event(ledger: Ledger) -> None:
    start(ledger, 0)
    events = ledger.folder / "events.jsonl"
    whole = events.read_bytes()
    events.write_bytes(whole + b'{"time": 1, "kind": "trial_en')
    assert ledger.trials()[0].state is State.RUNNING
    ledger.trial_ended(0, State.COMPLETE)
    assert ledger.trials()[0].state is State.COMPLETE
    assert events.read_bytes().startswith(whole)
    assert all(json.loads(line) for line in events.read_text().splitlines())


def test_a_first_line_that_was_torn_leaves_an_empty_ledger(ledger: Ledger) -> None:
    (ledger.folder / "events.jsonl").write_bytes(b'{"time"')
    assert ledger.trials() == {}
    start(ledger, 0)
    assert list(ledger.trials()) == [0]


def test_a_damaged_line_in_the_middle_is_named(ledger: Ledger) -> None:
    start(ledger, 0)
    (ledger.folder / "events.jsonl").write_bytes(b'{"kind": "x"}\n{"ki\n{"kind": "y"}\n')
    with pytest.raises(UserError, match=r"events.jsonl: line 2 is damaged; restore the file or remove the line"):
        ledger.trials()


def test_every_event_is_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    """A process that dies by SIGKILL right behind an append loses nothing."""
    opened(tmp_path / "s")
    code = (
        "import os, signal, sys; from pathlib import Path; from study.ledger import Ledger\n"
        "ledger = Ledger.open(Path(sys.argv[1]))\n"
        "for epoch in range(1, 20): ledger.trial_epoch(0, epoch, {'dev/wer': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], cwd=root, check=False)
    assert killed.returncode == -9
    assert len(Ledger.open(tmp_path / "s").trials()[0].epochs) == 19


def test_a_study_opened_again_keeps_its_trials_and_its_first_manifest(tmp_path: Path, ledger: Ledger) -> None:
    start(ledger, 0)
    again = Ledger.create_or_open(tmp_path / "s", study(), TINY, {"python": "4"})
    assert list(again.trials()) == [0]
    assert again.manifest == {"python": "3"}
    assert Ledger.open(tmp_path / "s").base_recipe == TINY


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 99},
        {"workers": {"count": 4}},
        {"tracking": "http://elsewhere"},
        {"storage": "elsewhere"},
        {"early_stopping": {"rule": "none"}},
        {"search": CONTENT["search"] | {"sampler": "random", "seed": 5}},  # type: ignore[operator]
    ],
)
def test_budget_workers_tracking_and_sampler_may_change(
    tmp_path: Path, ledger: Ledger, changes: dict[str, Any]
) -> None:
    opened(tmp_path / "s", **changes)
    assert Ledger.open(tmp_path / "s").study == study(**changes)


@pytest.mark.parametrize(
    ("changes", "recipe", "words"),
    [
        (
            {"search": {"ctc_weight": {"uniform": [0.1, 0.5]}, "auxiliary": {"count": [0, 2]}}},
            {},
            "another search space (ctc_weight.uniform was [0.1, 0.6], is [0.1, 0.5])",
        ),
        (
            {"search": {"ctc_weight": {"uniform": [0.1, 0.6]}}},
            {},
            'another search space (auxiliary was {"count": [0, 2], "final_weight": [0.3, 0.9]}, is null)',
        ),
        ({"objective": {"metric": "dev/cer"}}, {}, 'another objective (metric was "dev/wer", is "dev/cer")'),
        ({}, {"training.epochs": 5}, "another base recipe (training.epochs was 6, is 5)"),
        ({}, {"data.fingerprint": "xyz"}, 'another corpus (fingerprint was "abc", is "xyz")'),
    ],
)
def test_a_name_in_use_with_another_study_is_refused_with_what_changed(
    tmp_path: Path, ledger: Ledger, changes: dict[str, Any], recipe: dict[str, Any], words: str
) -> None:
    before = (tmp_path / "s" / "study.yaml").read_text()
    with pytest.raises(UserError) as error:
        opened(tmp_path / "s", with_values(TINY, recipe), **changes)
    assert words in str(error.value)
    assert str(error.value).endswith("give the new study another name, or put the old value back")
    assert (tmp_path / "s" / "study.yaml").read_text() == before


def test_a_corpus_that_moved_is_the_same_corpus(tmp_path: Path, ledger: Ledger) -> None:
    opened(tmp_path / "s", with_values(TINY, {"data.corpus": "/moved"}), corpus="/moved")


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"study folder .*/file/s cannot be written \(Not a directory\); make it"):
        opened(tmp_path / "file" / "s")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_a_user_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
        opened(tmp_path / "s")


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study; give the folder of a study, or start one"):
        Ledger.open(tmp_path)


def test_a_study_that_crashed_while_it_was_made_is_made_again(tmp_path: Path) -> None:
    opened(tmp_path / "s")
    (tmp_path / "s" / "study.yaml").unlink()
    assert opened(tmp_path / "s").trials() == {}


def test_the_manifest_says_what_ran_where() -> None:
    about = manifest()
    assert about["packages"].keys() >= {"ray", "torch", "optuna", "mlflow"}
    assert about["hardware"]["cpus"] == os.cpu_count()
    assert manifest()["id"] != about["id"]
    assert json.loads(json.dumps(about)) == about
