"""A study on a cluster is steered from the laptop, command by command, while it runs there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Lab, make_lab

from model.corpora.corpus import Corpus
from study.ledger.events import ControlGiven
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
LONG = 2000  # epochs: only a command ends such a trial
COMPLETE, PRUNED, RUNNING, INTERRUPTED = (
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.RUNNING,
    TrialState.INTERRUPTED,
)


@pytest.fixture
def lab(corpus: Corpus) -> Iterator[Lab]:
    with make_lab(corpus) as lab:
        lab.command("cluster", "up", "lab")
        yield lab
        lab.command("cluster", "down", "lab")


def wait_for_states(lab: Lab, *states: TrialState) -> None:
    lab.wait_until(
        lambda: [trial.state for trial in lab.read_trials("steered")] == list(states), f"the states {states}"
    )


def test_every_command_of_a_laptop_is_followed_by_the_study_that_the_cluster_runs(lab: Lab) -> None:
    def order(command: str, *words: str) -> str:
        return lab.command(command, "steered", *words, "--on", "lab").strip()

    study = lab.write_study("steered", LONG, workers={"count": 1})
    lab.command("submit", str(study), "--on", "lab")
    wait_for_states(lab, RUNNING, RUNNING)
    assert order("trial", "0", "note", "from the laptop") == "noted of trial 0000"
    assert "trial 0000 pauses at its next report" in order("trial", "0", "pause")
    wait_for_states(lab, INTERRUPTED, RUNNING)
    assert "trial 0000 continues after epoch " in order("trial", "0", "resume")
    wait_for_states(lab, RUNNING, RUNNING)
    assert "is tried next" in order("enqueue", "training.epochs=2", "ctc_weight=0.4")
    assert "trial 0000 ends at its next report" in order("trial", "0", "stop")
    wait_for_states(lab, PRUNED, RUNNING, COMPLETE)
    assert "trials=2 from now on" in order("set", "trials=2")
    wait_for_states(lab, PRUNED, RUNNING, COMPLETE, RUNNING)
    assert "is paused, nothing starts until it is resumed" in order("pause")
    wait_for_states(lab, PRUNED, INTERRUPTED, COMPLETE, INTERRUPTED)
    assert "study 'steered' is resumed" in order("resume")
    wait_for_states(lab, PRUNED, RUNNING, COMPLETE, RUNNING)
    assert "whatever the stopping rule says" in order("trial", "3", "promote")
    assert "stops once the trials that run have ended: 0001, 0003" in order("drain")
    assert "trial 0001 ends at its next report" in order("trial", "1", "stop")
    assert "trial 0003 ends at its next report" in order("trial", "3", "stop")
    lab.wait_until(lambda: "steered  running" not in lab.command("studies", "--on", "lab"), "the end of the session")

    ledger = Ledger.open(lab.storage / "steered")
    assert [trial.state for trial in ledger.trials.values()] == [PRUNED, PRUNED, COMPLETE, PRUNED]
    assert ledger.trials[2].planned_epochs == 2
    given = [event for event in ledger.log.read() if isinstance(event, ControlGiven)]
    commands = "note pause resume enqueue stop set pause resume promote drain stop stop"
    assert [event.command for event in given] == commands.split()
    assert len({event.id for event in given}) == len(given)
    assert {event.who.split("@")[1] for event in given} == {"laptop"}, "who gave them is not a process of the cluster"
