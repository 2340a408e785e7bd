"""A study folder keeps every event, also when processes die and files are damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ledger_events import end_trial, list_kinds, report_epoch

from model.errors import UserError
from model.recipe.files import named_recipe, read_recipe, with_values
from model.recipe.hashing import ADDED_KEYS, content_hash, drop_keys
from model.recipe.recipe import Recipe
from model.strict import read_yaml, to_yaml
from study.config.study_file import StudyFile
from study.ledger.events import TrialEnded
from study.ledger.ledger import Ledger
from study.ledger.packed_epochs import PackedReports
from study.ledger.records import TrialState
from study.ledger.same_study import TRAININGS

GOLDEN = Path(__file__).parents[2] / "golden"
TINY = with_values(named_recipe("tiny", "/speech"), {"data.fingerprint": "abc"})
CONTENT = {
    "name": "s",
    "corpus": "/speech",
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}},
}


def study(**changes: Any) -> StudyFile:
    return StudyFile.model_validate(CONTENT | changes)


def open_ledger(folder: Path, recipe: Recipe = TINY, **changes: Any) -> Ledger:
    return Ledger.create_or_open(folder, study(**changes), recipe, {"python": "3"})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "s")


def start(ledger: Ledger, number: int) -> None:
    ledger.start_trial(number, TINY, {"ctc_weight": 0.3}, "ed" if number == 0 else None)


def test_a_record_has_all_that_a_trial_reported(ledger: Ledger) -> None:
    before = time.time()
    start(ledger, 0)
    report_epoch(ledger, 0, 1, {"dev/wer": 80.0, "train/loss": 3.0})
    report_epoch(ledger, 0, 2, {"dev/wer": 60.0, "train/loss": 2.0})
    end_trial(ledger, 0, TrialState.COMPLETE, metrics={"out_of_domain/wer": 90.0})
    record = ledger.trials[0]
    assert (record.state, record.baseline, record.values) == (TrialState.COMPLETE, "ed", {"ctc_weight": 0.3})
    assert record.recipe_hash == TINY.hash
    assert (record.epochs[0].epoch, record.epochs[0].metrics) == (1, {"dev/wer": 80.0, "train/loss": 3.0})
    assert dict(Ledger.open(ledger.folder).trials) == dict(ledger.trials)
    assert record.metrics == {"dev/wer": 60.0, "train/loss": 2.0, "out_of_domain/wer": 90.0}
    assert record.started is not None
    assert record.ended is not None
    assert before - 1 <= record.started <= record.ended <= time.time() + 1


def test_reports_of_a_trial_that_has_ended_are_packed_and_others_may_follow(ledger: Ledger) -> None:
    start(ledger, 0)
    for epoch in (1, 2):
        report_epoch(ledger, 0, epoch, {"dev/wer": 80.0 / epoch})
    before = ledger.trials[0].epochs
    end_trial(ledger, 0, TrialState.INTERRUPTED)
    packed = ledger.trials[0].epochs
    assert (type(before), type(packed), packed) == (tuple, PackedReports, before)
    start(ledger, 0)
    report_epoch(ledger, 0, 3, {"dev/wer": 10.0})
    assert ledger.trials[0].curve("dev/wer") == {1: 80.0, 2: 40.0, 3: 10.0}


def test_the_trials_recipe_lies_in_its_folder(ledger: Ledger) -> None:
    start(ledger, 3)
    assert ledger.trial_folder(3) == ledger.folder / "trials" / "0003"
    assert read_recipe(ledger.trial_folder(3) / "recipe.yaml") == TINY


def test_the_reason_of_a_failure_is_kept(ledger: Ledger) -> None:
    start(ledger, 0)
    end_trial(ledger, 0, TrialState.FAILED, reason="loss is nan at step 7")
    assert (ledger.trials[0].state, ledger.trials[0].reason) == (TrialState.FAILED, "loss is nan at step 7")


def test_every_event_is_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    """A process that dies by SIGKILL right after an append loses nothing."""
    open_ledger(tmp_path / "s")
    code = (
        "import os, signal, sys; from pathlib import Path; from study.ledger.ledger import Ledger\n"
        "from study.ledger.events import TrialEpoch; ledger = Ledger.open(Path(sys.argv[1]))\n"
        "for epoch in range(1, 20): ledger.append(TrialEpoch(number=0, epoch=epoch))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], cwd=root, check=False)
    assert killed.returncode == -9
    assert len(Ledger.open(tmp_path / "s").trials[0].epochs) == 19


def test_a_reopened_study_keeps_its_trials_and_its_first_manifest(tmp_path: Path, ledger: Ledger) -> None:
    start(ledger, 0)
    reopened = Ledger.create_or_open(tmp_path / "s", study(), TINY, {"python": "4"})
    assert list(reopened.trials) == [0]
    assert reopened.manifest == {"python": "3", "trainings": TRAININGS}
    assert Ledger.open(tmp_path / "s").base_recipe == TINY


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"study folder .*/file/s cannot be written \(Not a directory\); make it"):
        open_ledger(tmp_path / "file" / "s")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_a_user_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
        open_ledger(tmp_path / "s")


def test_a_folder_without_a_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study; give the folder of a study, or start one"):
        Ledger.open(tmp_path)


def test_a_study_that_crashed_while_it_was_created_is_created_again(tmp_path: Path) -> None:
    open_ledger(tmp_path / "s")
    (tmp_path / "s" / "study.yaml").unlink()
    assert dict(open_ledger(tmp_path / "s").trials) == {}


def test_a_recipe_file_of_an_older_version_is_accepted_by_the_hash_of_its_content(ledger: Ledger) -> None:
    """A key that was added later has its default, and changes the hash of the recipe that is read."""
    path = ledger.trial_folder(0) / "recipe.yaml"
    old = dump(TINY)
    del old["loss"]["inter_ctc"], old["training"]["freeze"]
    start(ledger, 0)
    path.write_text(yaml.safe_dump(old))
    recorded = hash_without(TINY, ("loss", "inter_ctc"), ("training", "freeze"))
    assert recorded != TINY.hash
    assert ledger.read_recipe(replace(ledger.trials[0], recipe_hash=recorded)) == TINY
    old["training"]["epochs"] = 99
    path.write_text(yaml.safe_dump(old))
    with pytest.raises(UserError, match=rf"trial 0 ran {recorded}; the file was changed after the trial: restore it"):
        ledger.read_recipe(replace(ledger.trials[0], recipe_hash=recorded))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"init_from": "/weights"},
        {"init_from": "/weights", "init_fingerprint": "abc"},
        {"tokenizer.file": "/pieces", "tokenizer.fingerprint": "abc"},
        {"optimiser.learning_rate": 1e-5, "loss.ctc_weight": 1 / 3},
    ],
)
def test_a_recipes_file_has_the_recipes_hash(tmp_path: Path, values: dict[str, Any]) -> None:
    recipe = with_values(TINY, values)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert content_hash(read_yaml(tmp_path / "recipe.yaml")) == recipe.hash


def test_a_study_of_an_older_version_opens_with_the_defaults_of_newer_keys(tmp_path: Path, ledger: Ledger) -> None:
    base, file = (read_yaml(ledger.folder / name) for name in ("base_recipe.yaml", "study.yaml"))
    del base["loss"]["inter_ctc"], base["training"]["freeze"], file["failures"], file["search"]["repeat_seed"]
    file["database"] = None  # a key that newer versions do not know
    (ledger.folder / "base_recipe.yaml").write_text(yaml.safe_dump(base))
    (ledger.folder / "study.yaml").write_text(yaml.safe_dump(file))
    assert (open_ledger(tmp_path / "s").study, open_ledger(tmp_path / "s").base_recipe) == (study(), TINY)


def test_a_study_with_an_optuna_database_on_a_server_is_refused_with_what_to_change(
    tmp_path: Path, ledger: Ledger
) -> None:
    content = read_yaml(ledger.folder / "study.yaml")
    (ledger.folder / "study.yaml").write_text(yaml.safe_dump(content | {"database": "postgresql://host/db"}))
    with pytest.raises(
        UserError, match=r"study.yaml: unknown key 'database': .* remove the key, .*; the study was started"
    ):
        Ledger.open(tmp_path / "s")


def test_an_unknown_key_is_refused_with_the_version_that_started_the_study(tmp_path: Path, ledger: Ledger) -> None:
    manifest = {"packages": {"decred-study": "0.0.9"}, "git": {"commit": "1234567890abcdef"}}
    (ledger.folder / "manifest.json").write_text(json.dumps(manifest))
    content = read_yaml(ledger.folder / "base_recipe.yaml")
    (ledger.folder / "base_recipe.yaml").write_text(yaml.safe_dump(content | {"magic": 1}))
    with pytest.raises(
        UserError,
        match=r"base_recipe.yaml: unknown key 'magic'; .*; the study was started with decred-study 0.0.9 at commit "
        "1234567890ab: use that version, or start under another name",
    ):
        Ledger.open(tmp_path / "s")


def test_nothing_is_written_once_another_process_has_taken_the_study(tmp_path: Path) -> None:
    taken_over: list[bool] = []

    def check_ownership() -> None:
        if taken_over:
            raise UserError("taken over")

    ledger = Ledger.create_or_open(tmp_path / "s", study(), TINY, {}, check_ownership)
    start(ledger, 0)
    before = ledger.log.files()[-1].read_bytes()
    taken_over.append(True)
    for write in (lambda: report_epoch(ledger, 0, 1, {}), lambda: start(ledger, 1), ledger.start_session):
        with pytest.raises(UserError, match="taken over"):
            write()
    assert [path.read_bytes() for path in ledger.log.files()] == [before]
    assert not ledger.trial_folder(1).exists()


def test_a_session_starts_by_itself_with_its_first_event_and_interrupts_what_ran(ledger: Ledger) -> None:
    start(ledger, 0)
    report_epoch(ledger, 0, 1, {"dev/wer": 80.0})
    reopened = Ledger.open(ledger.folder)
    assert reopened.trials[0].state is TrialState.RUNNING, "a reader cannot know that no driver runs it"
    reopened.append(TrialEnded(number=1, state=TrialState.INFEASIBLE, reason="no"))
    assert reopened.trials[0].state is TrialState.INTERRUPTED
    assert list_kinds(reopened) == ["session_started", "trial_started", "trial_epoch", "session_started", "trial_ended"]


@pytest.mark.parametrize(
    ("name", "initials"), [("study_format_1", "ccfcpcpcpirr"), ("study_format_2", "ccfcpcpcpirfr")]
)
def test_a_study_folder_of_each_format_opens_and_takes_events(tmp_path: Path, name: str, initials: str) -> None:
    """The folders in tests/golden are of studies whose driver was killed; every later version has to open them."""
    shutil.copytree(GOLDEN / name, tmp_path / name)
    ledger = Ledger.open(tmp_path / name)
    assert "".join(record.state.value[0] for record in ledger.trials.values()) == initials
    assert ledger.trials.best is not None
    for record in ledger.trials.values():
        assert ledger.read_recipe(record).loss.ctc_weight > 0
        assert record.curve("dev/wer") or record.state in (TrialState.FAILED, TrialState.RUNNING)
    ledger.start_session()
    assert not ledger.trials.running
    report_epoch(ledger, 10, 3, {"dev/wer": 5.0})
    assert Ledger.open(tmp_path / name).trials[10].curve("dev/wer")[3] == 5.0


def test_a_study_of_version_0_3_opens_whole_and_continues(tmp_path: Path) -> None:
    """The demo, with curves, the figures of chosen weights, and test sets. No later version may change its hashes."""
    folder = shutil.copytree(GOLDEN / "study_version_0_3", tmp_path / "demo")
    ledger = Ledger.open(folder)
    assert "".join(record.state.value[0] for record in ledger.trials.values()) == "ccppppppcp"
    for record in ledger.trials.values():
        assert ledger.read_recipe(record).hash == record.recipe_hash
        assert ledger.read_recipe(record).decoding.hash == record.decoding_hash
    best = ledger.trials[8]
    assert ledger.trials.best == (8, best.recipe_hash)
    assert best.metrics["dev/wer"] == min(best.curve("dev/wer").values())
    assert [record.number for record in ledger.trials.values() if record.has_tests] == [0, 1, 8]
    assert Ledger.create_or_open(folder, ledger.study, ledger.base_recipe, {}).trials == ledger.trials


def dump(recipe: Recipe) -> dict[str, Any]:
    return yaml.safe_load(to_yaml(recipe))


def hash_without(recipe: Recipe, *keys: tuple[str, str]) -> str:
    """The hash that a version without these keys computed."""
    content = recipe.model_dump(mode="json")
    del content["name"], content["data"]["corpus"], content["decoding"], content["test_decoding"]
    del content["decoding_search"]
    do_not_count = ("data", "longest_scored_seconds"), ("optimiser", "accumulate"), ("training", "compile")
    do_not_count += ("data", "readers"), ("validation", "batch_seconds"), ("validation", "ilm_estimators")
    for parent, key in (*keys, *do_not_count):
        del content[parent][key]
    content = drop_keys(content, ADDED_KEYS)
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
