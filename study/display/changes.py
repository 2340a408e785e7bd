"""What happened to a study, a line an event: what `status --watch` prints where there is no terminal."""

from __future__ import annotations

from study.display.table import FIGURES, format_value
from study.ledger.events import (
    AnyEvent,
    NodeExcluded,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialDecoded,
    TrialEnded,
    TrialEpoch,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
)
from study.ledger.trials import Trials

_DEV_FIGURES = {title: name for name, title in FIGURES.items() if name.startswith("dev/")}


def describe_event(event: AnyEvent, trials: Trials) -> str | None:
    """A line on an event that the trials have taken in already; None for one that people need not see."""
    match event:
        case SessionStarted():
            return f"a session started: {event.trials} trials to run, {event.concurrency} at a time"
        case StudyEnded():
            best = "" if event.best is None else f"; trial {event.best:04d} is the best"
            return f"the study ended: {event.state}{best}"
        case StudyInterrupted():
            return "the study was stopped" + (f": {event.reason}" if event.reason else "")
        case NodeExcluded():
            return f"node {event.node} is excluded: {event.reason}"
        case TrialStarted():
            values = ", ".join(f"{name} {format_value(value)}" for name, value in event.values.items())
            return _describe(event.number, "started", event.baseline or values)
        case TrialEpoch():
            planned = trials[event.number].planned_epochs or "?"
            return _describe(event.number, f"epoch {event.epoch}/{planned}", _format_figures(dict(event.metrics)))
        case TrialEnded():
            return _describe(event.number, str(event.state), event.reason)
        case TrialPaused():
            return _describe(event.number, "waits", event.reason)
        case TrialRetried():
            return _describe(event.number, "is tried again", event.reason)
        case TrialMoved():
            return _describe(event.number, "moves", event.reason)
        case TrialDecoded():
            return _describe(event.number, "was decoded", None)
    return None


def _describe(number: int, what: str, details: str | None) -> str:
    return f"trial {number:04d} {what}" + (f": {details}" if details else "")


def _format_figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{title} {metrics[name]:.2f}" for title, name in _DEV_FIGURES.items() if name in metrics)
