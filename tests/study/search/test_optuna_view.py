"""Optuna's database can be lost or changed for another: the ledger fills it again, and the study goes on as it was."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import optuna.trial
import pytest
from optuna.trial import FrozenTrial
from study.execution.recorder import Recorder, settle

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState
from study.search.proposal import Proposal, Refused
from study.search.proposer import FILLING, Proposer
from study.search.space import Space

TINY = named_recipe("tiny", "speech")
METRIC = "dev/wer"
SEARCH = {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}, "startup_trials": 3}
GRID = {"sampler": "grid", "grid_points": 2, "auxiliary": {"count": [0, 1], "layers": [1]}}


def study(trials: int = 6, baselines: tuple[str, ...] = ("ed",), **search: Any) -> StudyFile:
    content = {"name": "s", "corpus": "speech", "trials": trials, "baselines": baselines, "search": SEARCH | search}
    return StudyFile.model_validate(content)


@functools.cache
def tables() -> bytes:
    """Optuna's tables, made once because that takes a second."""
    with tempfile.TemporaryDirectory() as folder:
        Proposer(study(), TINY, f"sqlite:///{folder}/optuna.db")
        optuna.delete_study(study_name="s", storage=f"sqlite:///{folder}/optuna.db")
        return (Path(folder) / "optuna.db").read_bytes()


class Nobody:
    """Sees and follows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *given: None


class Session:
    """One call of `run` on a study in a folder, with a database that is made where it is missing."""

    def __init__(self, folder: Path, given: StudyFile, url: str | None = None) -> None:
        self.folder, self.database = folder, folder / "optuna.db"
        self.ledger = Ledger.create_or_open(folder, given, TINY, {"id": "one"})
        if not self.database.exists():
            self.database.write_bytes(tables())
        self.proposer = Proposer(given, TINY, url or f"sqlite:///{self.database}", "one")
        self.filled = settle(self.ledger, self.proposer)
        self.recorder = Recorder(self.ledger, self.proposer, Nobody(), Nobody())

    def start(self, paused: tuple[int, ...] = ()) -> Proposal | None:
        proposal = self.proposer.propose(self.recorder.infeasible, paused)
        if proposal is not None:
            self.recorder.started(proposal)
        return proposal

    def show(self, number: int, *values: float) -> None:
        for epoch, value in enumerate(values, 1):
            self.recorder.epoch(number, {"epoch": epoch, METRIC: value, "train/loss": 1.0})

    def end(self, number: int, state: TrialState, value: float | None = None) -> None:
        metrics = {METRIC: value} if value is not None else None
        self.recorder.ended(number, state, "so it was", metrics)

    def all(self) -> list[Proposal]:
        proposals = []
        while (proposal := self.start()) is not None:
            value = loss(proposal.recipe)
            self.show(proposal.number, value + 1, value)
            self.end(proposal.number, TrialState.COMPLETE, value)
            proposals.append(proposal)
        return proposals

    def trials(self) -> list[FrozenTrial]:
        return self.proposer._study.get_trials()

    def lose(self, given: StudyFile) -> Session:
        """The database is deleted, and the study opened again."""
        self.database.unlink()
        return Session(self.folder, given)


def loss(recipe: Recipe) -> float:
    return abs(recipe.loss.ctc_weight - 0.2) + abs(len(recipe.loss.auxiliary.placement) - 1)


def facts(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """All of the trials but times and Optuna's own notes."""
    kept = ("number", "state", "values", "params", "distributions", "intermediate_values", "user_attrs")
    return [{name: repr(getattr(trial, name)) for name in kept} for trial in trials]


def one_of_each(folder: Path, given: StudyFile, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A trial in every state there is: complete, pruned, failed, without a number, waiting, interrupted, infeasible."""
    session = Session(folder, given)
    for number in range(6):
        proposal = session.start()
        assert proposal is not None
        session.show(number, *(50.0 - number - epoch for epoch in range(2)))
    session.end(0, TrialState.COMPLETE, 49.0)
    session.end(1, TrialState.PRUNED)
    session.end(2, TrialState.FAILED)
    session.show(3, 40.0, math.nan)
    session.end(3, TrialState.COMPLETE, math.nan)
    session.recorder.paused(4, 2, "it waits")
    session.ledger.append("study_interrupted")  # and trial 5 with it

    def refuse(space: Space, point: Any) -> Recipe:
        raise UserError("heads 3 do not divide width 128")

    with monkeypatch.context() as patched:
        patched.setattr(Space, "recipe", refuse)
        session.proposer._study_file = given.model_copy(update={"trials": 6})
        assert session.proposer.propose(session.recorder.infeasible, (4,)) is None
    return session


@pytest.mark.parametrize("search", [{}, {"sampler": "random"}, GRID], ids=["tpe", "random", "grid"])
def test_a_finished_study_that_lost_its_database_is_extended_as_if_it_had_it(
    tmp_path: Path, search: dict[str, Any]
) -> None:
    more = 4 if search is GRID else 8
    whole = Session(tmp_path / "whole", study(more, **search)).all()
    first = Session(tmp_path / "halves", study(more - 3, **search))
    begun, before = first.all(), facts(first.trials)
    again = first.lose(study(more, **search))
    assert again.filled == len(begun) == more - 2
    assert facts(again.trials) == before
    assert again.proposer.remaining() == 3
    assert begun + again.all() == whole
    assert [trial.number for trial in again.trials] == list(again.ledger.trials) == list(range(more + 1))


@pytest.mark.parametrize("search", [{}, GRID | {"grid_points": 3}], ids=["tpe", "grid"])
def test_a_database_filled_from_the_ledger_is_the_one_that_was_lost(
    tmp_path: Path, search: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (one_of_each(tmp_path / name, study(9, **search), monkeypatch) for name in ("one", "other"))
    before, kept = facts(other.trials), Session(tmp_path / "one", study(9, **search))
    again = other.lose(study(9, **search))
    assert again.filled == len(before) == 7
    assert facts(again.trials) == before
    states = [trial.state.name for trial in again.trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "RUNNING", "RUNNING", "FAIL"]
    assert again.proposer.interrupted() == kept.proposer.interrupted()
    assert [each.number for each in again.proposer.interrupted()] == [4, 5]
    assert again.proposer.remaining() == kept.proposer.remaining() == 3
    assert one.folder != other.folder
    assert [again.start((4,)) for _ in range(3)] == [kept.start((4,)) for _ in range(3)]


def test_a_filled_database_is_not_filled_again(tmp_path: Path) -> None:
    Session(tmp_path, study(2)).all()
    again = Session(tmp_path, study(2)).lose(study(2))
    assert again.filled == 3
    assert Session(tmp_path, study(2)).filled == 0
    assert len(again.trials) == 3


def test_a_new_study_has_nothing_to_fill_in(tmp_path: Path) -> None:
    assert Session(tmp_path, study()).filled == 0


def test_a_crash_while_the_database_is_filled_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Session(tmp_path, study(5))
    first.all()
    before, add, added = facts(first.trials), optuna.Study.add_trial, []

    def add_three(self: optuna.Study, trial: FrozenTrial) -> None:
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(trial)
        add(self, trial)

    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, "add_trial", add_three)
        with pytest.raises(KeyboardInterrupt):
            first.lose(study(5))
    again = Session(tmp_path, study(5))
    assert again.filled == 3
    assert facts(again.trials) == before
    assert not again.proposer._study.user_attrs[FILLING]


def test_a_number_that_a_crash_left_undecided_is_used_and_costs_no_trial(tmp_path: Path) -> None:
    first = Session(tmp_path, study(4, ()))
    first.proposer._study.ask()  # and a crash before anything was decided
    second = Session(tmp_path, study(2, ()))
    second.all()
    assert list(second.ledger.trials) == [0, 1]
    again = second.lose(study(4, ()))
    assert [trial.state.name for trial in again.trials] == ["COMPLETE", "COMPLETE"]
    assert [each.number for each in again.all()] == [2, 3]


def test_what_optuna_is_ahead_by_after_a_crash_is_no_contradiction(tmp_path: Path) -> None:
    first = Session(tmp_path, study(4))
    assert first.start() is not None
    decided = first.proposer.propose()  # and a crash before the ledger heard of it
    assert decided is not None
    first.proposer._study.enqueue_trial({"ctc_weight": 0.3})
    again = Session(tmp_path, study(4))
    assert [each.number for each in again.proposer.interrupted()] == [0, decided.number]


def test_an_infeasible_point_that_optuna_missed_the_end_of_counts_against_the_budget(tmp_path: Path) -> None:
    first = Session(tmp_path, study(4, ()))
    trial = first.proposer._study.ask()
    first.recorder.infeasible(Refused(trial.number, {"ctc_weight": 0.3}, "no"))  # and a crash before Optuna heard
    again = Session(tmp_path, study(4, ()))
    assert again.proposer.remaining() == 3
    assert again.trials[0].user_attrs["state"] == "infeasible"


def test_a_ledger_of_an_older_version_which_noted_no_points_gives_them_by_the_recipes(tmp_path: Path) -> None:
    first = Session(tmp_path, study(5))
    first.all()
    before, events = first.trials, first.ledger.folder / "events.jsonl"
    lines = [line.replace('"point"', '"unknown"') for line in events.read_text().splitlines()]
    events.write_text("\n".join(lines) + "\n")
    for was, now in zip(before, first.lose(study(5)).trials, strict=True):
        assert now.params == pytest.approx(was.params)
        assert now.distributions == was.distributions


def test_a_recipe_that_was_lost_matters_to_a_trial_that_goes_on_and_to_no_other(tmp_path: Path) -> None:
    first = Session(tmp_path, study(2))
    first.all()
    extended = Session(tmp_path, study(3))
    assert extended.start() is not None
    (tmp_path / "trials" / "0001" / "recipe.yaml").unlink()
    again = extended.lose(study(3))
    assert again.trials[1].value is not None
    assert Session(tmp_path, study(3)).filled == 0
    (tmp_path / "trials" / "0003" / "recipe.yaml").unlink()
    with pytest.raises(UserError, match=r"0003/recipe.yaml: cannot be read"):
        again.lose(study(3))


def test_imported_trials_are_filled_in_as_they_were_adopted(tmp_path: Path) -> None:
    session = Session(tmp_path, study(3, ("ed",)))
    recipe = with_values(TINY, {"loss.ctc_weight": 0.4, "training.seed": 7})
    shown = ({"epoch": 1, METRIC: 60.0}, {"epoch": 2, METRIC: 40.0})
    for number, state in enumerate((TrialState.COMPLETE, TrialState.PRUNED)):
        record = TrialRecord(
            number, state, baseline="decred-paper", recipe_hash=recipe.hash, epochs=shown, metrics={METRIC: 40.0}
        )
        assert session.proposer.adopt(recipe, record) == number
        session.ledger.trial_imported(number, "old/7", record)
        folder = session.ledger.trial_folder(number)
        folder.mkdir(parents=True)
        (folder / "recipe.yaml").write_text(recipe.model_dump_json())
    before, remaining = facts(session.trials), session.proposer.remaining()
    again = session.lose(study(3, ("ed",)))
    assert facts(again.trials) == before
    assert again.proposer.remaining() == remaining == 2


def refusal(folder: Path, given: StudyFile) -> str:
    """What is said of the database in the folder, which stays as it is."""
    database = f"sqlite:///{folder}/optuna.db"
    before = facts(optuna.load_study(study_name="s", storage=database).trials)
    with pytest.raises(UserError) as error:
        Session(folder, given)
    assert facts(optuna.load_study(study_name="s", storage=database).trials) == before
    assert "\n" not in str(error.value)
    start = f"Optuna's database {database} does not belong to this study's ledger ("
    end = "); put back the one that does, or give it an empty one, which is filled from the ledger"
    assert str(error.value).startswith(start)
    assert str(error.value).endswith(end)
    return str(error.value)[len(start) : -len(end)]


def test_a_database_with_fewer_trials_than_the_ledger_is_refused(tmp_path: Path) -> None:
    Session(tmp_path, study(1)).all()
    older = (tmp_path / "optuna.db").read_bytes()
    Session(tmp_path, study(3)).all()
    (tmp_path / "optuna.db").write_bytes(older)
    assert refusal(tmp_path, study(3)) == "it has 2 trials, and the ledger has trial 0003"


def test_a_database_that_knows_more_ends_than_the_ledger_is_refused(tmp_path: Path) -> None:
    session = Session(tmp_path, study(3))
    session.all()
    events = (tmp_path / "events.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "events.jsonl").write_bytes(b"".join(events[:-1]))
    assert refusal(tmp_path, study(3)) == "trial 0003 is complete there, and running here"
    (tmp_path / "events.jsonl").write_bytes(b"".join(events[:-4]))
    assert refusal(tmp_path, study(3)) == "trial 0003 is complete there, and unknown here"
    assert session.ledger.trials.keys() == {0, 1, 2}


def test_the_database_of_another_ledger_is_refused_and_its_open_trials_stay_open(tmp_path: Path) -> None:
    other = Session(tmp_path / "other", study(3, (), seed=1))
    other.start()
    other.proposer._study.ask()
    session = Session(tmp_path / "here", study(3, ()))
    session.start()
    session.database.write_bytes(other.database.read_bytes())
    assert refusal(tmp_path / "here", study(3, ())) == "trial 0000 has another recipe"
    assert [trial.state for trial in other.trials] == [optuna.trial.TrialState.RUNNING] * 2
