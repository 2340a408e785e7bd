"""A session looks for commands, carries them out, records each once, and answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from open_session import TINY, WHO, OpenSession, give, report, start

from model.recipe.files import with_values
from model.strict import to_yaml
from study.early_stopping.rule import Ruling
from study.execution.enqueuing import describe_recipe
from study.execution.session import NEVER_PROMOTED
from study.ledger.commands import Command, CommandAnswer, list_commands, make_command, take_answer, write_command
from study.ledger.events import ControlGiven
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.workers.failure import Failure, FailureKind


def test_the_folder_is_looked_at_about_once_a_second(running: OpenSession) -> None:
    running.session.look_at_commands()
    write_command(running.ledger.folder, make_command("pause"))
    running.now += 0.5
    running.session.look_at_commands()
    assert len(list_commands(running.ledger.folder)) == 1
    running.now += 0.6
    running.session.look_at_commands()
    assert list_commands(running.ledger.folder) == []
    assert len(running.lines) == 1, "the user sees a line"


def test_a_running_trial_is_stopped_at_its_next_report_with_who_stopped_it(running: OpenSession) -> None:
    start(running, 1)
    assert running.session.find_orders(0) == []
    assert give(running, "stop", 0) == CommandAnswer(True, "trial 0000 ends at its next report, after epoch 2")
    assert running.lines == ["ada@laptop: trial 0000 ends at its next report, after epoch 2"]
    running.session.record_epoch(0, report(2))
    orders = running.session.find_orders(0)
    assert orders == [(Ruling.PRUNE, "stopped by ada@laptop after epoch 2")]
    running.session.prune(0, orders[0][1])
    record = running.ledger.trials[0]
    assert (record.state, record.reason, record.epoch) == (TrialState.PRUNED, "stopped by ada@laptop after epoch 2", 2)
    assert give(running, "stop", 0) == CommandAnswer(False, "trial 0000 has ended, it is pruned")


@pytest.mark.parametrize("command", ["stop", "pause"])
def test_a_trial_that_reports_no_more_as_it_is_being_scored_is_left_alone(command: str, running: OpenSession) -> None:
    start(running, TINY.training.epochs)
    refusal = "trial 0000 has trained all its epochs and is being scored; it ends by itself"
    assert give(running, command, 0) == CommandAnswer(False, refusal)


def test_a_trial_that_is_stopped_and_lost_ends_instead_of_being_retried(running: OpenSession) -> None:
    start(running, 1)
    (running.ledger.trial_folder(0) / "checkpoints").mkdir()
    give(running, "stop", 0)
    running.session.fail(0, Failure(FailureKind.LOST, "worker 1 of 2 was lost"))
    assert running.ledger.trials[0].state is TrialState.PRUNED
    assert running.rule.overridden == [(0, True)]
    assert running.observer.records[-1].state is TrialState.PRUNED
    assert not (running.ledger.trial_folder(0) / "checkpoints").exists(), "only its weights are kept"
    assert start(running) == 1


def test_a_trial_that_waits_is_stopped_at_once(running: OpenSession) -> None:
    start(running, 1)
    running.session.pause(0, 1, "waits at its rung")
    answer = give(running, "stop", 0)
    assert answer == CommandAnswer(True, "trial 0000 has ended, with its figures so far")
    assert running.ledger.trials[0].state is TrialState.PRUNED
    assert running.rule.overridden == [(0, True)]


def test_a_paused_trial_leaves_its_workers_at_its_report_and_continues_when_it_is_resumed(
    running: OpenSession,
) -> None:
    start(running, 1)
    give(running, "pause", 0)
    assert running.session.find_orders(0) == [(Ruling.INTERRUPT, "paused by ada@laptop after epoch 1")]
    running.session.interrupt_trial(0, "paused by ada@laptop after epoch 1")
    assert running.ledger.trials[0].state is TrialState.INTERRUPTED
    assert [start(running), start(running), start(running)] == [1, 2, 3], "others start"
    assert give(running, "pause", 0).line == "trial 0000 is paused already"
    assert give(running, "resume", 0) == CommandAnswer(True, "trial 0000 continues after epoch 1")
    assert start(running) == 0


def test_a_session_ends_where_nothing_is_left_but_trials_that_people_have_paused(running: OpenSession) -> None:
    numbers = [start(running, 1) for _ in range(5)]
    give(running, "pause", 0)
    running.session.interrupt_trial(0, "paused")
    for number in numbers[1:]:
        assert not running.session.is_done()
        running.session.complete(number, {"dev/wer": 40.0, "test/a/wer": 9.0, "finished": 1.0})
    assert running.session.next() is None
    assert running.session.is_done()
    assert not running.session.is_complete(), "it can be continued"
    running.session.end_never_promoted()
    assert running.ledger.trials[0].state is TrialState.INTERRUPTED


def test_a_held_trial_that_its_rung_promotes_waits_for_the_person_alone(
    running: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(running, 1)
    give(running, "pause", 0)
    running.session.pause(0, 1, "waits at its rung")
    promoted = [0]
    monkeypatch.setattr(running.rule, "promote_next", lambda closed=False: promoted.pop() if promoted else None)
    running.now += 3600.0
    assert start(running) == 1
    record = running.ledger.trials[0]
    assert (record.state, record.reason) == (TrialState.INTERRUPTED, "paused by ada@laptop at its rung")
    assert record.lost_seconds == 0.0, "it trained nothing while it waited"
    give(running, "resume", 0)
    assert start(running) == 0


def test_a_promoted_trial_comes_first_and_is_not_pruned_at_the_end(running: OpenSession) -> None:
    start(running, 1)
    running.session.pause(0, 1, "waits at its rung")
    answer = give(running, "promote", 0)
    assert answer.line == "trial 0000 continues after epoch 1, whatever the stopping rule says"
    assert running.rule.overridden == [(0, False)], "the rule does not promote it a second time"
    assert start(running) == 0
    assert running.session.find_orders(0) == [(Ruling.CONTINUE, "promoted by ada@laptop")]
    assert NEVER_PROMOTED not in [record.reason for record in running.ledger.trials.values()]


@pytest.mark.parametrize("paused", [0, None])
def test_a_promoted_trial_that_is_paused_too_is_first_promoted_and_then_paused(
    paused: int | None, running: OpenSession
) -> None:
    start(running, 1)
    give(running, "promote", 0)
    give(running, "pause", paused)
    assert [ruling for ruling, _ in running.session.find_orders(0)] == [Ruling.CONTINUE, Ruling.INTERRUPT]
    give(running, "stop", 0)
    assert [ruling for ruling, _ in running.session.find_orders(0)] == [Ruling.PRUNE]


def test_a_paused_study_starts_nothing_and_waits_and_goes_on_when_it_is_resumed(running: OpenSession) -> None:
    start(running, 1)
    answer = give(running, "pause")
    assert answer.line.endswith(
        "is paused, nothing starts until it is resumed; trials that run pause at their next report: 0000"
    )
    assert running.session.find_orders(0) == [(Ruling.INTERRUPT, "paused by ada@laptop after epoch 1")]
    running.session.interrupt_trial(0, "paused")
    assert running.session.next() is None
    assert not running.session.is_done()
    assert give(running, "resume").line == "study 's' is resumed"
    assert start(running) == 0


def test_a_drained_study_is_done_when_nothing_runs_and_can_be_continued(running: OpenSession) -> None:
    start(running, 1)
    assert give(running, "drain").line == "study 's' stops once the trials that run have ended: 0000"
    assert running.session.next() is None
    assert not running.session.is_done(), "one trial runs"
    running.session.complete(0, {"dev/wer": 40.0, "finished": 1.0})
    assert running.session.is_done()
    assert not running.session.is_complete()
    assert give(running, "resume").line == "study 's' goes on"
    assert not running.session.is_done()
    assert start(running) == 1


def test_an_enqueued_recipe_is_next_does_not_count_as_sampled_and_has_a_point_where_the_space_has_it(
    running: OpenSession, tmp_path: Path
) -> None:
    mine = with_values(TINY, {"loss.ctc_weight": 0.45})
    (tmp_path / "mine.yaml").write_text(to_yaml(mine))
    inside, outside = describe_recipe(["ctc_weight=0.4"]), describe_recipe(["ctc_weight=0.9"])
    assert give(running, "enqueue", value=inside).line == "enqueued: loss.ctc_weight 0.4; it is tried next"
    give(running, "enqueue", value=outside)
    give(running, "enqueue", value=describe_recipe([str(tmp_path / "mine.yaml")]))
    assert [start(running) for _ in range(3)] == [0, 1, 2]
    trials = running.ledger.trials
    assert [trials[number].enqueued_by for number in range(3)] == [WHO] * 3
    assert [bool(trials[number].point) for number in range(3)] == [True, False, True]
    assert running.ledger.read_recipe(trials[1]).loss.ctc_weight == 0.9
    later = [start(running) for _ in range(5)]
    assert [trials[number].baseline for number in later] == ["ed", "decred-paper", None, None, None]
    assert running.session.next() is None, "two baselines and three sampled trials, beside what was enqueued"


def test_a_raised_budget_brings_more_trials_at_once(running: OpenSession) -> None:
    numbers = [start(running) for _ in range(5)]
    assert running.session.next() is None
    assert give(running, "set", value="trials=4").line == "trials=4 from now on, instead of trials=3"
    assert start(running) == numbers[-1] + 1
    assert running.session.next() is None


def test_a_failed_trial_is_retried_at_once_and_the_rule_knows_its_epochs_again(
    running: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(running, 1, 2)
    running.session.fail(0, Failure(FailureKind.ERROR, "KeyError: 3"))
    decided: list[tuple[int, int]] = []

    def decide(number: int, epoch: int, *_: object, **__: object) -> Ruling:
        decided.append((number, epoch))
        return Ruling.CONTINUE

    monkeypatch.setattr(running.rule, "decide", decide)
    assert give(running, "retry", 0) == CommandAnswer(True, "trial 0000 continues after epoch 2")
    assert decided == [(0, 1), (0, 2)]
    assert start(running) == 0


def test_a_command_that_was_recorded_and_not_answered_is_answered_and_not_carried_out_again(
    running: OpenSession,
) -> None:
    start(running, 1)
    command = make_command("note", 0, "loss rises", WHO)
    running.ledger.append(ControlGiven(who=WHO, command="note", number=0, value="loss rises", id=command.id))
    write_command(running.ledger.folder, command)
    running.now += 2.0
    running.session.look_at_commands()
    assert take_answer(running.ledger.folder, command.id) == CommandAnswer(
        True, "note was recorded, before the study's driver was replaced"
    )
    assert running.ledger.trials[0].notes == ("loss rises (ada@laptop)",)
    assert running.lines == []


def test_what_is_no_command_is_refused_and_the_study_goes_on(running: OpenSession) -> None:
    folder = running.ledger.folder
    write_command(folder, Command("1-a", 1.0, WHO, "dance"))
    (folder / "control" / "2-b.json").write_text("{")
    (folder / "control" / "3-c.json").write_text('{"time": 1, "who": "x", "command": "stop", "number": Infinity}')
    running.session.look_at_commands()
    first, *others = (take_answer(folder, name) for name in ("1-a", "2-b", "3-c"))
    assert first is not None
    assert not first.is_done
    for name, answer in zip(("2-b", "3-c"), others, strict=True):
        assert answer == CommandAnswer(False, f"the file {name}.json holds no command; give it with decred-study")
    assert start(running) == 0
    assert not any(isinstance(event, ControlGiven) for event in Ledger.open(folder).log.read())
