"""Commands to a study that nobody runs: this process records them, and the next session follows."""

from __future__ import annotations

import fcntl
import io
import os
import threading
import time
from pathlib import Path

import optuna
import pytest
from ledger_events import end_trial, list_kinds, report_epoch
from rich.console import Console

from model.errors import UserError
from study.config.budget import BudgetSettings, dump_budget
from study.display.status import print_status
from study.early_stopping.rules import values_by_epoch
from study.execution.enqueuing import describe_recipe
from study.execution.orders import judge_command
from study.execution.steering import give_command, prepare_session
from study.ledger.budget_events import BudgetReached
from study.ledger.commands import CommandAnswer, list_commands, make_command, take_answer, write_answer
from study.ledger.events import ControlGiven, StudyEnded, TrialEnded, TrialStarted
from study.ledger.lease import LOCK, hold_lease
from study.ledger.lease_file import LEASE, Machine, format_lease, make_holder
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.search.optuna_trials import SamplerTrials
from study.search.proposer import Proposer
from study.search.space import Space
from study.search.trials_left import is_sampled


@pytest.fixture
def ended(old: Ledger) -> Ledger:
    """A study of four trials that has come to its end; trial 3 failed after its last epoch."""
    end_trial(old, 3, TrialState.FAILED, "KeyError: 3")
    old.append(StudyEnded(state=TrialState.COMPLETE, best=0, best_recipe_hash=old.trials[0].recipe_hash))
    return Ledger.open(old.folder)


def read_controls(folder: Path) -> list[ControlGiven]:
    return [event for event in Ledger.open(folder).log.read() if isinstance(event, ControlGiven)]


def test_a_reopened_trial_is_interrupted_after_its_last_epoch_and_the_study_has_not_ended(ended: Ledger) -> None:
    line = give_command(ended.folder, "retry", 3)
    assert line == "trial 0003 continues after epoch 3 when the study is continued"
    ledger = Ledger.open(ended.folder)
    record = ledger.trials[3]
    assert (record.state, record.epoch) == (TrialState.INTERRUPTED, 3)
    assert (record.reason or "").startswith("reopened by ")
    assert not ledger.trials.has_ended
    assert (ledger.trials.study_state, ledger.trials.best) == (TrialState.INTERRUPTED, ended.trials.best)
    assert list_kinds(ledger)[-3:] == ["session_started", "control_given", "study_interrupted"]
    (control,) = read_controls(ended.folder)
    assert (control.command, control.number) == ("retry", 3)
    assert "@" in control.who
    assert control.time > 0


def test_the_sampler_the_rule_and_the_budget_count_a_reopened_trial_as_one_that_runs(ended: Ledger) -> None:
    space, metric = Space(ended.study.search, ended.base_recipe), ended.study.objective.metric
    proposer = Proposer(ended.study, ended.base_recipe, ended.read_recipe)
    remaining = proposer.count_remaining(ended.trials)
    assert 3 not in values_by_epoch(ended.trials, metric)
    give_command(ended.folder, "retry", 3)
    trials = Ledger.open(ended.folder).trials
    assert proposer.count_remaining(trials) == remaining
    assert list(values_by_epoch(trials, metric)[3]) == [1, 2, 3]
    sampled = SamplerTrials(space, metric, lambda record: {}).update(trials)
    assert sampled[3].state is optuna.trial.TrialState.RUNNING


@pytest.mark.parametrize(
    ("command", "number", "expected"),
    [
        ("retry", 0, "trial 0000 is complete; only one that failed, or that could not be trained, can be tried again"),
        ("retry", 1, "trial 0001 is pruned; only one that failed"),
        ("retry", 4, "trial 0004 is infeasible and makes no recipe; only one that failed"),
        ("stop", 0, "trial 0000 has ended, it is complete"),
        ("promote", 1, "trial 0001 has ended, it is pruned"),
        ("resume", 0, "trial 0000 is not paused by anybody, it is complete"),
        ("note", 9, "has no trial 9; it has 0 to 4"),
        ("pause", None, "has ended, so there is nothing to pause"),
        ("resume", None, "study 'old' is not paused"),
        ("drain", None, "study 'old' does not run, so there is nothing to drain"),
        ("set", None, "'' sets nothing; give trials=NUMBER or concurrent_trials=NUMBER"),
        ("dance", None, "this version knows no command 'dance'"),
    ],
)
def test_what_is_refused_is_one_line_and_nothing_is_written(
    command: str, number: int | None, expected: str, ended: Ledger
) -> None:
    ended.append(TrialEnded(number=4, state=TrialState.INFEASIBLE, reason="it makes no recipe"))
    if command == "pause":
        ended.append(StudyEnded(state=TrialState.COMPLETE))
    before = len(list_kinds(ended))
    with pytest.raises(UserError, match=expected) as raised:
        give_command(ended.folder, command, number)
    assert "\n" not in str(raised.value)
    assert len(list_kinds(Ledger.open(ended.folder))) == before
    assert list_commands(ended.folder) == []


def test_a_note_that_is_no_text_is_refused_before_it_is_given(ended: Ledger) -> None:
    text = b"caf\xe9".decode(errors="surrogateescape")
    with hold_lease(ended.folder):
        with pytest.raises(UserError, match=r"^note is given '\\udce9' as character 4, which is no text; give it in "):
            give_command(ended.folder, "note", 0, text, wait=0.0)
        assert list_commands(ended.folder) == []


def test_a_command_that_fails_between_two_sessions_is_refused_and_the_next_session_starts(ended: Ledger) -> None:
    recipe = describe_recipe([f"init_from=/{'x' * 300}"])  # no file can have this name
    with hold_lease(ended.folder):
        give_command(ended.folder, "enqueue", value=recipe, wait=0.0)
    (id_,) = list_commands(ended.folder)
    ledger = Ledger.open(ended.folder)
    assert prepare_session(ledger, ledger.study, resumes=False) == []
    assert ledger.trials.has_ended
    answer = take_answer(ended.folder, id_)
    assert answer is not None
    assert answer.line.startswith("enqueue fails ([Errno 36] File name too long: ")
    with pytest.raises(UserError, match=r"^enqueue fails \(\[Errno 36\] File name too long: "):
        give_command(ended.folder, "enqueue", value=recipe)


def test_a_note_leaves_a_study_ended_that_had_ended(ended: Ledger) -> None:
    assert give_command(ended.folder, "note", 0, "the  best\nso far", who="ada@laptop") == "noted of trial 0000"
    trials = Ledger.open(ended.folder).trials
    assert trials[0].notes == ("the best so far (ada@laptop)",)
    assert trials.has_ended
    assert trials.study_state is TrialState.COMPLETE
    assert trials.best == ended.trials.best


@pytest.mark.parametrize(
    ("setting", "ends"), [("concurrent_trials=2", True), ("trials=2", True), ("trials=1", True), ("trials=3", False)]
)
def test_a_setting_that_gives_a_study_nothing_more_to_do_leaves_it_ended(
    setting: str, ends: bool, ended: Ledger
) -> None:
    assert sum(is_sampled(record) for record in ended.trials.values()) == 2
    give_command(ended.folder, "set", value=setting)
    trials = Ledger.open(ended.folder).trials
    assert (trials.has_ended, trials.best) == (ends, ended.trials.best)
    assert trials.study_state is (TrialState.COMPLETE if ends else TrialState.INTERRUPTED)


@pytest.mark.parametrize(("command", "number"), [("retry", 3), ("enqueue", None)])
def test_what_the_budget_has_no_room_for_is_accepted_and_the_answer_says_what_it_waits_for(
    command: str, number: int | None, ended: Ledger
) -> None:
    budget = BudgetSettings(hours=1.0)
    ended.study = ended.study.model_copy(update={"budget": budget})
    value = describe_recipe(["training.epochs=2"]) if command == "enqueue" else None
    line = judge_command(make_command(command, number, value), ended, is_running=False).line
    assert line.endswith(" when the study is continued")
    ended.append(BudgetReached(part="search", budget=dump_budget(budget), reason="no room"))
    again = judge_command(make_command(command, number, value), ended, is_running=False).line
    assert again == f"{line}, once the budget is raised: it has no room for more of the search"


def test_a_command_waits_for_the_driver_that_has_the_study_and_gives_its_answer(ended: Ledger) -> None:
    def answer() -> None:
        while not (ids := list_commands(ended.folder)):
            time.sleep(0.01)
        write_answer(ended.folder, ids[0], CommandAnswer(False, "trial 0003 is being scored"))

    with hold_lease(ended.folder):
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(UserError, match=r"^trial 0003 is being scored$"):
            give_command(ended.folder, "retry", 3, wait=60.0)
        thread.join()
    assert read_controls(ended.folder) == [], "the driver records, not this process"


def test_a_command_waits_for_a_driver_that_has_the_lock_and_no_lease_yet(ended: Ledger) -> None:
    with (ended.folder / LOCK).open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert "is carried out when that looks next" in give_command(ended.folder, "retry", 3, wait=0.5)
        threading.Timer(0.5, fcntl.flock, (stream, fcntl.LOCK_UN)).start()
        line = give_command(ended.folder, "note", 3, "well", wait=60.0)
    assert line == "noted of trial 0003", "the driver has ended, so that this process records both"
    assert [event.command for event in read_controls(ended.folder)] == ["retry", "note"]


def test_a_command_that_no_driver_answers_stays_and_the_next_session_records_it_before_it_starts(
    ended: Ledger,
) -> None:
    with hold_lease(ended.folder):
        line = give_command(ended.folder, "retry", 3, wait=0.0)
        assert "is carried out when that looks next" in line
    (id_,) = list_commands(ended.folder)
    assert Ledger.open(ended.folder).trials[3].state is TrialState.FAILED
    with hold_lease(ended.folder):
        ledger = Ledger.open(ended.folder)
        assert [line.split(": ")[1] for line in prepare_session(ledger, ledger.study, resumes=False)] == [
            "trial 0003 continues after epoch 3 when the study is continued"
        ]
        assert prepare_session(ledger, ledger.study, resumes=False) == []
    assert Ledger.open(ended.folder).trials[3].state is TrialState.INTERRUPTED
    answer = take_answer(ended.folder, id_)
    assert answer is not None
    assert answer.is_done


def test_a_pause_outlives_sessions_until_it_is_resumed_by_the_command_or_by_a_run_that_resumes(old: Ledger) -> None:
    folder = old.folder
    give_command(folder, "pause", who="ada@laptop")
    for _ in range(2):
        ledger = Ledger.open(folder)
        (line,) = prepare_session(ledger, ledger.study, resumes=False)
        assert line.startswith("the study is paused by ada@laptop, and nothing starts until: decred-study resume ")
    with pytest.raises(UserError, match=r"^study 'old' is paused already, by ada@laptop$"):
        give_command(folder, "pause")
    assert prepare_session(ledger, ledger.study, resumes=True) == []
    assert Ledger.open(folder).trials.steering.paused_by is None
    give_command(folder, "pause")
    assert give_command(folder, "resume") == "study 'old' is resumed when the study is continued"
    assert Ledger.open(folder).trials.steering.paused_by is None


def test_what_was_set_stands_until_the_study_file_says_another_number_than_it_said_then(old: Ledger) -> None:
    folder, before = old.folder, old.study.trials
    give_command(folder, "set", value="trials=40", who="ada@laptop")
    ledger = Ledger.open(folder)
    lines = prepare_session(ledger, ledger.study, resumes=False)
    assert lines == [f"trials=40, as ada@laptop has set it, instead of the study file's trials={before}"]
    assert ledger.trials.steering.get("trials", before) == 40
    changed = ledger.study.model_copy(update={"trials": 12})
    assert prepare_session(ledger, changed, resumes=False) == []
    assert ledger.trials.steering.get("trials", 12) == 12
    assert prepare_session(ledger, changed, resumes=False) == []


def test_a_setting_that_a_study_file_could_not_have_is_refused(old: Ledger) -> None:
    with pytest.raises(UserError, match="concurrent_trials is 0, but must be 1 or more"):
        give_command(old.folder, "set", value="concurrent_trials=0")
    assert give_command(old.folder, "set", value="concurrent_trials=none").startswith("concurrent_trials=none from now")


def test_a_trial_that_was_stopped_before_it_reported_anything_says_nothing_to_the_sampler(old: Ledger) -> None:
    recipe, metric = old.read_recipe(old.trials[0]), old.study.objective.metric
    space = Space(old.study.search, old.base_recipe)
    for number, reports in ((4, ()), (5, (1,))):
        ledger = Ledger.open(old.folder)
        ledger.start_trial(number, recipe, {}, point=old.trials[0].point)
        for epoch in reports:
            report_epoch(ledger, number, epoch, {metric: 30.0})
        give_command(old.folder, "stop", number)
    sampled = SamplerTrials(space, metric, lambda record: {}).update(Ledger.open(old.folder).trials)
    assert sampled[4].state is optuna.trial.TrialState.FAIL
    assert (sampled[5].state, sampled[5].value) == (optuna.trial.TrialState.PRUNED, 30.0)


def test_status_shows_the_orders_in_force_and_the_notes(old: Ledger) -> None:
    give_command(old.folder, "pause", who="ada@laptop")
    give_command(old.folder, "note", 0, "the best so far", who="ada@laptop")
    give_command(old.folder, "set", value="trials=40", who="ada@laptop")
    printed = Console(file=io.StringIO(), width=160)
    print_status(Ledger.open(old.folder), old.folder, printed)
    output = printed.file.getvalue()  # type: ignore[attr-defined]
    assert "the study is paused by ada@laptop; nothing starts before it is resumed" in output
    assert "trials=40 is set by ada@laptop" in output
    assert "trial 0000: the best so far (ada@laptop)" in output


def test_what_ran_in_a_driver_that_was_killed_counts_until_its_last_heartbeat_where_a_command_comes_first(
    old: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.append(TrialStarted(number=4))
    now, hours = time.time(), old.trials.spent.count_hours()
    lease = old.folder / LEASE
    lease.write_bytes(format_lease(make_holder(Machine.detect(), 2.0, locked=True), 7))
    os.utime(lease, (now + 360, now + 360))
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    give_command(old.folder, "note", 0, "well")
    spent = Ledger.open(old.folder).trials.spent
    assert spent.count_hours() - hours == pytest.approx(0.1, abs=0.002)
    assert spent.trials[4].seconds == pytest.approx(360, abs=5)
    assert spent.running == []
