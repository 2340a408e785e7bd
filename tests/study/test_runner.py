"""What is refused before anything starts, and what a driver prints that was stopped or replaced."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ledger_events import end_trial
from rich.console import Console

from cluster.resources import Node
from model.corpora.corpus import Corpus
from model.errors import UserError
from model.recipe.files import with_values
from study import runner
from study.config.places import study_folder
from study.config.study_file import StudyFile, make_base_recipe, read_study, with_trials
from study.execution.checks import max_concurrent_trials
from study.ledger.lease import Lease, hold_lease
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.notifications.notifier import Notifier
from study.runner import Work, run_study
from study.tracking.tracker import Tracker


def study_file(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    study = {"name": "probe", "corpus": "corpus", "search": {"ctc_weight": {"uniform": [0.1, 0.5]}}, "trials": 1}
    path.write_text(yaml.safe_dump(study | changes))
    return path


def test_too_many_workers_are_refused_before_the_corpus_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = study_file(tmp_path, workers={"count": 4000, "cpus": 1})
    with pytest.raises(UserError, match=r"workers.count 4000 x workers.cpus 1 needs 4000 CPUs, this machine has"):
        run_study(path)
    assert not (tmp_path / "studies").exists()


def test_a_tracking_server_that_does_not_answer_is_refused_before_anything_starts(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"tracking http://127.0.0.1:9 does not answer"):
        run_study(study_file(tmp_path, corpus=str(corpus.folder), tracking="http://127.0.0.1:9"))
    assert not (tmp_path / "studies").exists()


def test_a_missing_corpus_is_refused_and_no_study_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="corpus"):
        run_study(study_file(tmp_path))
    assert not (tmp_path / "studies").exists()


def test_the_number_of_trials_can_be_given_and_is_checked(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path))
    assert with_trials(study, 5).trials == 5
    assert with_trials(study, None) is study
    with pytest.raises(UserError, match="--trials"):
        with_trials(study, -1)


def test_concurrency_is_of_the_given_cluster_and_not_of_this_machine(tmp_path: Path) -> None:
    study: StudyFile = read_study(study_file(tmp_path, workers={"count": 2, "cpus": 4}))
    assert max_concurrent_trials(study, [Node(8), Node(16)]) == 3


def test_a_study_that_fits_on_no_machine_is_refused_unless_it_may_wait_for_one(tmp_path: Path) -> None:
    workers = {"count": 2, "cpus": 4000}
    refused = read_study(study_file(tmp_path, workers=workers))
    words = (
        r"workers.count 2 x workers.cpus 4000 needs 8000 CPUs, the cluster of 2 nodes has 24 CPUs; lower .*; or set "
    )
    with pytest.raises(UserError, match=words + r"workers.wait_seconds, to wait for machines that are added$"):
        max_concurrent_trials(refused, [Node(8), Node(16)])
    waiting = read_study(study_file(tmp_path, workers=workers | {"wait_seconds": 1800}))
    assert max_concurrent_trials(waiting, [Node(8), Node(16)]) == 0
    with pytest.raises(UserError, match=r"needs 8000 CPUs, this machine has \d+ CPUs?; lower workers.count or w\S+$"):
        max_concurrent_trials(waiting)


REFUSED_SPACES = {
    "a layer that the decoder does not have": ({"auxiliary": {"layers": [9]}}, "layer 9"),
    "an unknown recipe key": ({"recipe": {"optimiser.learnrate": {"uniform": [0.1, 0.2]}}}, "optimiser.learnrate"),
    "a value that the recipe refuses": ({"ctc_weight": {"uniform": [0.5, 1.5]}}, "search.ctc_weight can be 1.5"),
}


@pytest.mark.parametrize("fault", REFUSED_SPACES)
def test_a_refused_space_makes_no_study_folder(
    fault: str, tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search, message = REFUSED_SPACES[fault]
    path = study_file(tmp_path, corpus=str(corpus.folder), search=search)
    with pytest.raises(UserError, match=message):
        run_study(path)
    assert not (tmp_path / "studies").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_corpus_is_prepared(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").write_text("a file where the folder should be")
    path = study_file(tmp_path, corpus=str(corpus.folder), storage="full")
    with pytest.raises(UserError, match=r"study folder .*full/probe cannot be written .*set 'storage'"):
        run_study(path, work=Work(prepare="no_such_module:prepare"))


def test_a_name_in_use_with_another_space_is_refused_before_the_corpus_is_prepared(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = read_study(study_file(tmp_path, corpus=str(corpus.folder)))
    base = with_values(make_base_recipe(first), {"data.fingerprint": corpus.fingerprint})
    Ledger.create_or_open(study_folder(first), first, base, {})
    other = study_file(tmp_path, corpus=str(corpus.folder), search={"ctc_weight": {"uniform": [0.1, 0.4]}})
    with pytest.raises(UserError, match=r"in use with another search space \(ctc_weight.uniform was"):
        run_study(other, work=Work(prepare="no_such_module:prepare"))


def test_a_second_run_in_the_same_folder_is_refused_with_the_process_that_runs_it(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = study_file(tmp_path, corpus=str(corpus.folder))
    with hold_lease(study_folder(read_study(path))):
        with pytest.raises(UserError, match=rf"is being run by process {os.getpid()} on .*; wait until it ends"):
            run_study(path)
        assert sorted(path.name for path in (tmp_path / "studies" / "probe").iterdir()) == ["lease.json", "lock"]


def test_a_cluster_that_does_not_answer_is_reported_in_one_line_within_seconds_and_no_study_is_made(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"address '127.0.0.1:9' does not answer as a Ray cluster") as raised:
        run_study(study_file(tmp_path, corpus=str(corpus.folder)), address="127.0.0.1:9")
    assert time.monotonic() - start < 30, "Ray itself tries for two minutes"
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "studies").exists()


@pytest.fixture
def ended_study(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a study whose one trial has failed, and of which MLflow has nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Tracker, "start", lambda tracker: None)  # so that no run is up to date
    path = study_file(tmp_path, corpus=str(corpus.folder), trials=0, baselines=["ed"])
    study = read_study(path)
    base = with_values(make_base_recipe(study), {"data.fingerprint": corpus.fingerprint})
    ledger = Ledger.create_or_open(study_folder(study), study, base, {})
    ledger.start_trial(0, base, {}, "ed")
    end_trial(ledger, 0, TrialState.FAILED, "no memory")
    return path


WORK = Work(prepare="stub_training:prepare")
NOT_SENT = "2 runs may not be up to date in MLflow"


def test_a_driver_that_was_replaced_prints_nothing_about_runs_that_are_its_successors(
    ended_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(record=True, width=200)
    assert run_study(ended_study, console=console, work=WORK) == 1
    assert NOT_SENT in console.export_text()

    Ledger.open(study_folder(read_study(ended_study))).start_session()

    def refuse(lease: Lease) -> None:
        raise UserError("the study was taken over")

    monkeypatch.setattr(Lease, "check", refuse)
    with pytest.raises(UserError, match="taken over"):
        run_study(ended_study, console=console, work=WORK)
    assert "MLflow" not in console.export_text()


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_stop_while_mlflow_is_waited_for_ends_the_wait_alone_and_names_what_was_not_sent(
    ended_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Tracker.close
    waits = iter([interrupt, close])
    monkeypatch.setattr(Tracker, "close", lambda tracker, *rest, **named: next(waits)(tracker, *rest, **named))
    console = Console(record=True, width=200)
    assert run_study(ended_study, console=console, work=WORK) == 1, "as without the stop: no trial is complete"
    printed = console.export_text()
    assert NOT_SENT in printed
    assert "stopped" not in printed
    assert list(waits) == []


@pytest.mark.parametrize("stops", [["register_best"], ["prepare_session"], ["prepare_session", "register_best"]])
def test_a_stop_at_any_time_and_a_second_one_while_the_session_closes_are_one_line_and_exit_code_130(
    stops: list[str], ended_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in stops:
        monkeypatch.setattr(runner, name, interrupt)
    console = Console(record=True, width=200)
    assert run_study(ended_study, console=console, work=WORK) == 130
    stopped = [line for line in console.export_text().splitlines() if line.startswith("stopped")]
    assert stopped == [f"stopped; what was done is in studies/probe. Continue with: decred-study run {ended_study}"]


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (KeyboardInterrupt(), ""),
        (OSError(errno.ENOSPC, "no space"), "Free space, then continue with: "),
        (OSError(errno.ESTALE, "Stale file handle"), "studies/probe cannot be used (Stale file handle); nothing that "),
    ],
)
def test_the_notifier_learns_of_a_full_disk_or_a_lost_one_in_the_words_that_the_user_reads(
    raised: BaseException, seen: str, ended_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[BaseException | None] = []

    def fail(ledger: Ledger) -> None:
        raise raised

    def note(notifier: Notifier, kind: object, error: BaseException | None, traceback: object) -> None:
        met.append(error)
        notifier.close()

    ended_study.write_text(ended_study.read_text() + "notify: {command: 'true'}\n")
    monkeypatch.setattr(runner, "find_unscored", fail)
    monkeypatch.setattr(Notifier, "__exit__", note)
    with contextlib.suppress(UserError):
        run_study(ended_study, console=Console(record=True, width=200), work=WORK)
    (error,) = met
    assert seen in str(error)
    assert isinstance(error, KeyboardInterrupt if not seen else UserError)


def test_an_error_of_another_file_than_the_studys_is_not_blamed_on_its_folder(
    ended_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "find_unscored", lambda ledger: Path("elsewhere").read_text())
    with pytest.raises(FileNotFoundError, match=r"elsewhere"):
        run_study(ended_study, console=Console(record=True, width=200), work=WORK)
