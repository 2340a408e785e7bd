"""What people have ordered of a study, as far as it is not carried out yet: a part of the fold.

Orders are events (`ControlGiven`), so whoever folds them knows the same: the driver that carries them out, the next
session after a kill, `status`.

stop N       the trial ends with its figures so far, as `pruned`: at its next report, or at once where it does not run
pause N      it leaves its workers at its next report, with its checkpoint, until `resume N`
promote N    the stopping rule neither keeps it waiting at a rung nor stops it any more; others are compared with it
enqueue      a recipe is tried next, in addition to the search's budget
pause        nothing starts, and what runs pauses at its next report, until `resume`
drain        nothing starts, and the session ends when nothing runs; `resume` ends that, too
set          a setting of the study file has another value until the file asks for a third one
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic_core import from_json

from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialEnded,
    TrialStarted,
    TrialState,
)

if TYPE_CHECKING:
    from study.ledger.records import TrialRecord

STOP, PAUSE, RESUME, PROMOTE, NOTE = "stop", "pause", "resume", "promote", "note"
ENQUEUE, DRAIN, SET = "enqueue", "drain", "set"
RETRY, USE = "retry", "use"  # reopen a trial, use a node that was excluded
TRIALS, CONCURRENT_TRIALS = SETTINGS = "trials", "concurrent_trials"
NO_LIMIT = "none"


@dataclass(frozen=True)
class Enqueued:
    """A recipe that a person wants to be tried, as JSON; `id` is the command's."""

    id: str
    who: str
    recipe: str


@dataclass(frozen=True)
class Setting:
    """What a person has set; `before` is what the study file said then."""

    value: int | None  # None is no limit
    before: int | None
    who: str


@dataclass(frozen=True)
class Steering:
    """The orders in force."""

    paused_by: str | None = None  # who paused the study
    drained_by: str | None = None
    stopped: Mapping[int, str] = field(default_factory=dict)  # trials to be stopped, and by whom
    held: Mapping[int, str] = field(default_factory=dict)  # trials that are paused until they are resumed
    promoted: Mapping[int, str] = field(default_factory=dict)  # trials that the rule neither pauses nor stops
    enqueued: tuple[Enqueued, ...] = ()  # those that have not started
    sources: frozenset[str] = frozenset()  # folders whose weights enqueued recipes start from, also once they started
    settings: Mapping[str, Setting] = field(default_factory=dict)
    applied: frozenset[str] = frozenset()  # ids of all commands so far

    @property
    def starts_nothing(self) -> bool:
        """Whether no trial may start now."""
        return self.paused_by is not None or self.drained_by is not None

    def get(self, setting: str, otherwise: int | None) -> int | None:
        """The value of a setting; `otherwise` is the study file's."""
        return self.settings[setting].value if setting in self.settings else otherwise

    def find_pause(self, number: int) -> str | None:
        """Who has a running trial leave its workers; None where nobody has."""
        return self.held.get(number) or self.paused_by

    def settle(self, record: TrialRecord, time: float | None) -> TrialRecord:
        """The record as it stands: a trial that is to be stopped, and does not run, has ended."""
        who = self.stopped.get(record.number)
        if who is None or record.state not in (TrialState.INTERRUPTED, TrialState.WAITING):
            return record
        return replace(record, state=TrialState.PRUNED, reason=describe_stop(who, record.epoch), ended=time)

    def after(self, event: AnyEvent) -> Steering:
        """The orders after an event."""
        if type(event) not in _CHANGES:
            return self
        match event:
            case ControlGiven():
                known = self if event.id is None else replace(self, applied=self.applied | {event.id})
                if event.number is None:
                    return _order_study(known, event)
                return _order_trial(known, event, event.number)
            case TrialStarted(enqueued=str(id_)):
                return replace(self, enqueued=tuple(one for one in self.enqueued if one.id != id_))
            case TrialEnded() if event.state.final:
                if event.number not in {*self.stopped, *self.held, *self.promoted}:
                    return self
                return _forget(self, event.number)
            case SessionStarted() | StudyInterrupted() | StudyEnded() if self.drained_by is not None:
                return replace(self, drained_by=None)  # the session that it was about is over
        return self


# What may change orders; nearly all events are epochs, and go through no chain of comparisons.
_CHANGES = frozenset({ControlGiven, TrialStarted, TrialEnded, SessionStarted, StudyInterrupted, StudyEnded})


def describe_stop(who: str, epoch: int) -> str:
    """The reason of a trial that a person stopped."""
    return f"stopped by {who}" + (f" after epoch {epoch}" if epoch else " before its first epoch")


def parse_setting(text: str) -> Iterator[tuple[str, int | None]]:
    """The setting in `trials=40`, or in `concurrent_trials=none`; nothing where it is none, or of a newer version."""
    name, _, value = text.partition("=")
    if name in SETTINGS and value.isdigit():
        yield name, int(value)
    elif (name, value) == (CONCURRENT_TRIALS, NO_LIMIT):
        yield name, None


def format_setting(name: str, value: int | None) -> str:
    """What `parse_setting` reads."""
    return f"{name}={NO_LIMIT if value is None else value}"


def _order_study(steering: Steering, event: ControlGiven) -> Steering:
    match event.command, event.value:
        case "pause", _:
            return replace(steering, paused_by=event.who)
        case "resume", _:
            return replace(steering, paused_by=None, drained_by=None)
        case "drain", _:
            return replace(steering, drained_by=event.who)
        case "enqueue", str(recipe) if event.id is not None:
            enqueued = (*steering.enqueued, Enqueued(event.id, event.who, recipe))
            return replace(steering, enqueued=enqueued, sources=steering.sources | set(_read_sources(recipe)))
        case "set", str(text):
            before = int(event.before) if event.before is not None and event.before.isdigit() else None
            new = {name: Setting(value, before, event.who) for name, value in parse_setting(text)}
            return replace(steering, settings={**steering.settings, **new})
    return steering


def _read_sources(recipe: str) -> Iterator[str]:
    """The folder whose weights a recipe starts from, where it names one."""
    with contextlib.suppress(ValueError):
        content = from_json(recipe)
        if isinstance(content, dict) and isinstance(source := content.get("init_from"), str):
            yield source


def _order_trial(steering: Steering, event: ControlGiven, number: int) -> Steering:
    match event.command:
        case "stop":
            return replace(
                steering, stopped={**steering.stopped, number: event.who}, held=_without(steering.held, number)
            )
        case "pause":
            return replace(steering, held={**steering.held, number: event.who})
        case "resume":
            return replace(steering, held=_without(steering.held, number))
        case "promote":
            return replace(steering, promoted={**steering.promoted, number: event.who})
        case "retry":
            return _forget(steering, number)
    return steering


def _forget(steering: Steering, number: int) -> Steering:
    stopped, held, promoted = (
        _without(orders, number) for orders in (steering.stopped, steering.held, steering.promoted)
    )
    return replace(steering, stopped=stopped, held=held, promoted=promoted)


def _without(orders: Mapping[int, str], number: int) -> Mapping[int, str]:
    return {key: who for key, who in orders.items() if key != number}
