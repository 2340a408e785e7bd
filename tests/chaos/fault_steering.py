"""What people do to a study at odd times: any command on any trial, a second driver, a command that is killed."""

from __future__ import annotations

import time

from chaos.fault_run import StudyUnderFaults
from chaos.session_output import assert_clean_output, assert_command_ended_well

from study.ledger.ledger import STUDY, Ledger

COMMANDS = (("status", "study.yaml"), ("validate", "study.yaml"), ("report", "study.yaml", "-o", "report.html"))
OF_A_TRIAL = ("stop", "pause", "resume", "retry", "promote", "note")
CTC_WEIGHTS = (0.15, 0.35, 0.55)  # of recipes that are enqueued
MOST_ORDERS = 3  # one after the other


def start_second_driver(study: StudyUnderFaults) -> bool:
    """It is refused, at once, as long as the first one lives."""
    second = study.start_driver()
    code = study.wait_for_end(second)
    assert_clean_output(second.output)
    if study.driver.process.poll() is None:
        assert code == 2, f"a second driver ended with {code}:\n{second.output}"
        assert "is being run by" in second.output, second.output
    return True


def run_command(study: StudyUnderFaults) -> bool:
    """A user's command at an odd time does its work, or is refused in a line."""
    arguments = study.chance.choice(COMMANDS)
    command = study.start_command(*arguments)
    command.wait_for_end()
    assert_command_ended_well(command)
    return True


def steer(study: StudyUnderFaults) -> bool:
    """A user steers the study. A pause is taken back when nothing else strikes, also after the death of a driver."""
    for _ in range(study.chance.randint(1, MOST_ORDERS)):
        order = draw_order(study)
        if "pause" in order:
            study.paused = time.monotonic()
        study.order(*order)
    return True


def pause_study(study: StudyUnderFaults) -> bool:
    study.paused = time.monotonic()
    study.order("pause")
    return True


def kill_command(study: StudyUnderFaults) -> bool:
    """kill -9 of a command that steers, at any time of it: it is carried out or not, and in no one's way."""
    order = draw_order(study)
    if "pause" in order:
        study.paused = time.monotonic()
    command = study.start_command(order[0], "study.yaml", *order[1:])
    study.wait(study.chance.uniform(0.5, 3.0), until=lambda: command.process.poll() is not None)
    command.close()
    assert_clean_output(command.output)
    return True


def draw_order(study: StudyUnderFaults) -> tuple[str, ...]:
    """A command that steers, drawn from all, as its words; of any trial that there is."""
    chance, trials = study.chance, study.scenario.trials
    if chance.random() < 0.6:
        numbers = list(Ledger.open(study.folder).trials) if (study.folder / STUDY).exists() else []
        word = chance.choice(OF_A_TRIAL)
        text = ("looks well",) if word == "note" else ()
        return ("trial", str(chance.choice(numbers or [0])), word, *text)
    weight = f"ctc_weight={chance.choice(CTC_WEIGHTS)}"
    return chance.choice(
        (
            ("enqueue", weight),
            ("enqueue", weight, "training.epochs=3"),
            ("pause",),
            ("resume",),
            ("drain",),
            ("set", f"trials={trials + chance.choice((-1, 1, 2))}"),
            ("set", f"concurrent_trials={chance.choice((1, 2, 'none'))}"),
        )
    )
