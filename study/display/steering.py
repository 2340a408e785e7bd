"""What people have ordered of a study and noted of its trials, as lines."""

from __future__ import annotations

from collections.abc import Iterator

from study.ledger.steering import format_setting
from study.ledger.trials import Trials


def describe_steering(trials: Trials) -> Iterator[str]:
    """A line for each order that is in force, and for each trial that has notes."""
    yield from describe_orders(trials)
    for record in trials.values():
        if record.notes:
            yield f"trial {record.number:04d}: {'; '.join(record.notes)}"


def describe_orders(trials: Trials) -> Iterator[str]:
    """A line for each order that is in force."""
    steering = trials.steering
    if steering.paused_by is not None:
        yield f"the study is paused by {steering.paused_by}; nothing starts before it is resumed"
    if steering.drained_by is not None:
        yield f"the study is drained by {steering.drained_by}; it stops once nothing runs"
    for number, who in sorted(steering.stopped.items()):
        if not trials[number].state.final:
            yield f"trial {number:04d} is stopped by {who}, from its next report on"
    for number, who in sorted(steering.held.items()):
        yield f"trial {number:04d} is paused by {who}, until it is resumed (trial STUDY {number} resume)"
    for number, who in sorted(steering.promoted.items()):
        yield f"trial {number:04d} is promoted by {who}; the stopping rule stops it no more"
    for one in steering.enqueued:
        yield f"a recipe is enqueued by {one.who}, to be tried next"
    for name, setting in steering.settings.items():
        if setting.value != setting.before:
            yield f"{format_setting(name, setting.value)} is set by {setting.who}"
