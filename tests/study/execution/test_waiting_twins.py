"""A trial waits while another one trains its recipe, and keeps neither that one nor others from going on."""

from __future__ import annotations

import pytest
import torch
from open_session import OpenSession, give, start

from model.weights.chosen import Chosen
from model.weights.chosen_weights import save_chosen
from study.execution.agenda import LONGEST_DELAY
from study.execution.enqueuing import describe_recipe
from study.ledger.records import TrialState
from study.workers.failure import Failure, FailureKind

FIRST, TWIN = ["ctc_weight=0.9"], ["ctc_weight=0.9", "decoding.beam=3"]
LOST = Failure(FailureKind.LOST, "worker 1 of 2 was lost")


def enqueue(running: OpenSession, words: list[str]) -> None:
    assert give(running, "enqueue", value=describe_recipe(words)).is_done


def complete(running: OpenSession, number: int) -> None:
    """As a training does that comes to its end."""
    folder = running.ledger.trial_folder(number)
    if running.ledger.trials[number].training_of is None:
        chosen = Chosen("best", (1,), 1, 10, running.ledger.trials[number].recipe_hash)
        save_chosen(folder, {"weight": torch.ones(1)}, chosen)
    running.session.complete(number, {"dev/wer": 40.0, "finished": 1.0})


@pytest.fixture
def training(running: OpenSession) -> OpenSession:
    """A session in which trial 0 trains, and its twin, which differs in decoding alone, is next."""
    enqueue(running, FIRST)
    enqueue(running, TWIN)
    assert start(running, 1) == 0
    assert running.session.next() is None
    return running


def test_a_trial_that_was_lost_goes_on_with_its_training_before_its_twin_starts(training: OpenSession) -> None:
    training.session.fail(0, LOST)
    assert training.session.next() is None, "the retry is not due yet, and the twin waits for it"
    assert not training.session.is_done()
    training.now += 1.0
    assert start(training, 2) == 0
    assert training.session.next() is None
    complete(training, 0)
    assert start(training) == 1
    assert training.ledger.trials[1].training_of == 0


def test_in_a_study_that_was_paused_the_trial_goes_on_before_its_twin(training: OpenSession) -> None:
    give(training, "pause")
    training.session.interrupt_trial(0, "paused")
    give(training, "resume")
    assert start(training) == 0
    assert training.session.next() is None


def test_a_twin_trains_itself_where_a_person_has_paused_the_trial(training: OpenSession) -> None:
    training.session.fail(0, LOST)
    give(training, "pause", 0)
    assert start(training) == 1


def test_a_twin_trains_itself_where_the_trial_has_failed(training: OpenSession) -> None:
    training.session.fail(0, Failure(FailureKind.ERROR, "KeyError: 3"))
    assert start(training) == 1


def test_a_twin_does_not_wait_for_ever_for_a_retry_that_the_budget_has_no_room_for(
    training: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.session.fail(0, LOST)
    monkeypatch.setattr(training.agenda._budget, "admits_again", lambda number: False)
    training.now += LONGEST_DELAY - 1.0
    assert training.session.next() is None
    training.now += 1.0
    assert start(training) == 1


def test_whether_the_budget_has_room_for_a_twin_is_asked_again_when_it_may_start(
    training: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.agenda._budget, "admits", lambda proposal: False)
    monkeypatch.setattr(training.agenda._budget, "close", lambda part: None)
    training.session.fail(0, Failure(FailureKind.ERROR, "KeyError: 3"))
    assert training.session.next() is None
    assert list(training.ledger.trials) == [0]


def test_while_a_twin_waits_trials_that_were_lost_go_on(running: OpenSession) -> None:
    enqueue(running, FIRST)
    assert [start(running, 1), start(running, 1)] == [0, 1]
    enqueue(running, TWIN)
    assert running.session.next() is None
    running.session.fail(1, LOST)
    assert running.session.next() is None
    running.now += 1.0
    assert start(running) == 1
    complete(running, 0)
    assert start(running) == 2


def test_a_twin_that_its_rung_promotes_waits_too_and_is_given_again(
    training: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(training, "pause", 0)
    training.session.interrupt_trial(0, "paused")
    assert start(training, 1) == 1, "it trains itself"
    training.session.pause(1, 1, "waits at its rung")
    give(training, "resume", 0)
    assert start(training) == 0
    promoted = [1]
    monkeypatch.setattr(training.rule, "promote_next", lambda closed=False: promoted.pop() if promoted else None)
    assert training.session.next() is None
    record = training.ledger.trials[1]
    assert (record.state, record.reason) == (
        TrialState.INTERRUPTED,
        "waits for trial 0000, which trains the same recipe",
    )
    complete(training, 0)
    assert start(training) == 1
    assert training.ledger.trials[1].training_of == 0


def test_of_twins_that_were_both_lost_the_one_that_has_trained_more_goes_first(training: OpenSession) -> None:
    give(training, "pause", 0)
    training.session.interrupt_trial(0, "paused")
    assert start(training, 1, 2) == 1
    training.session.fail(1, LOST)
    give(training, "resume", 0)
    running = training.session._trainings
    recipe = training.ledger.read_recipe(training.ledger.trials[0])
    assert (running.find_other(0, recipe), running.find_other(1, recipe)) == (1, None)


def test_while_a_twin_waits_and_nothing_happens_the_agenda_is_asked_once_a_second(
    training: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    real_next = training.agenda.next

    def ask() -> object:
        asked.append(training.now)
        return real_next()

    monkeypatch.setattr(training.agenda, "next", ask)
    for _ in range(12):
        assert training.session.next() is None
        training.now += 0.25
    assert len(asked) == 2
