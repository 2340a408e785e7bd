"""A fold of events as bytes and back: what `fold_cache` keeps, because a long ledger is read several times faster so.

Figures of epochs are doubles in one array, what was tried for a decoding is as the record has it, all else is JSON.
What is packed comes back as reading the event files would give it: a figure that is not finite is NaN.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic_core import from_json, to_json

from study.ledger.budget_events import SessionWorkers
from study.ledger.epochs import EpochReport
from study.ledger.event_lines import from_line, to_line
from study.ledger.packed_epochs import PackedReports, Packer, Unpacker
from study.ledger.records import TrialRecord, TrialState
from study.ledger.spent import Spent, TrialUse
from study.ledger.steering import Enqueued, Setting, Steering
from study.ledger.trials import Trials

_STUDY = ("stopped", "applied", "began", "changed", "has_ended")  # of the trials, as they are
_EVENTS = ("session", "selection", "prior")  # of the trials, an event or None each
_USES = ("trials", "tests")  # of what was spent
_ORDERS = ("stopped", "held", "promoted")  # of people, by trial
_FIELDS = [field.name for field in fields(TrialRecord) if field.name not in ("epochs", "metrics", "tried")]


@dataclass(frozen=True)
class Packed:
    """The parts of a packed fold; `figures` are doubles."""

    content: bytes
    figures: bytes
    tried: bytes


def pack(trials: Trials) -> Packed:
    """The whole fold."""
    records, packer = list(trials.values()), Packer()
    unusual = [record for record in records if list(_usual_metrics(record).items()) != list(record.metrics.items())]
    content = {
        "study": {name: getattr(trials, name) for name in _STUDY},
        "study_state": trials.study_state,
        "best": trials.best,
        "events": {name: _write_event(getattr(trials, name)) for name in _EVENTS},
        "budget_reached": {part: _write_event(event) for part, event in trials.budget_reached.items()},
        "excluded": [_write_event(event) for event in trials.excluded],
        "spent": _pack_spent(trials.spent),
        "steering": vars(trials.steering),
        "records": {name: [getattr(record, name) for record in records] for name in _FIELDS},
        "epochs": [packer.pack(record.epochs) for record in records],
        "names": packer.names,
        "metrics": {record.number: record.metrics for record in unusual},
        "tried": [len(record.tried) for record in records],
    }
    tried = b"".join(record.tried for record in records)
    return Packed(to_json(content, inf_nan_mode="null"), packer.figures.tobytes(), tried)


def unpack(packed: Packed) -> Trials:
    """The fold that was packed, by this version."""
    content, figures, trials = from_json(packed.content), array("d"), Trials()
    figures.frombytes(packed.figures)
    vars(trials).update(content["study"])
    vars(trials).update({name: _read_event(line) for name, line in content["events"].items()})
    trials.study_state = TrialState(content["study_state"])
    trials.best = None if content["best"] is None else tuple(content["best"])
    trials.budget_reached = {part: _read_event(line) for part, line in content["budget_reached"].items()}
    trials.excluded = tuple(_read_event(line) for line in content["excluded"])
    trials.spent, trials.steering = _unpack_spent(content["spent"]), _unpack_steering(content["steering"])
    trials.restore(_unpack_records(content, Unpacker(figures, content["names"]), packed.tried))
    return trials


def _unpack_records(content: dict[str, Any], unpacker: Unpacker, tried: bytes) -> Iterator[TrialRecord]:
    columns, end = content["records"], 0
    columns["state"] = [TrialState(state) for state in columns["state"]]
    columns["final_metrics"] = [_with_nan(metrics) for metrics in columns["final_metrics"]]
    for name in ("decoding_stages", "notes"):
        columns[name] = [tuple(parts) for parts in columns[name]]
    for *row, epochs, length in zip(*columns.values(), content["epochs"], content["tried"], strict=True):
        values = dict(zip(columns, row, strict=True))
        begin, end = end, end + length
        values["epochs"] = reports = unpacker.unpack(values["number"], epochs)
        metrics = content["metrics"].get(str(values["number"]))
        values["metrics"] = _join(reports, values["final_metrics"]) if metrics is None else _with_nan(metrics)
        yield TrialRecord(**values, tried=tried[begin:end])


def _usual_metrics(record: TrialRecord) -> dict[str, float]:
    """What the metrics of nearly every trial are, so that they need not be kept as well."""
    return _join(record.epochs, record.final_metrics)


def _join(epochs: Sequence[EpochReport], final: dict[str, float]) -> dict[str, float]:
    if isinstance(epochs, PackedReports):
        return epochs.find_last_metrics() | final
    return (dict(epochs[-1].metrics) if epochs else {}) | final


def _with_nan(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in figures.items()}


def _write_event(event: Any) -> str | None:
    return None if event is None else to_line(event).decode()


def _read_event(line: str | None) -> Any:
    return None if line is None else from_line(line)


def _pack_spent(spent: Spent) -> dict[str, Any]:
    uses = {name: [(number, *vars(use).values()) for number, use in getattr(spent, name).items()] for name in _USES}
    return vars(spent) | uses | {"_closed": list(spent._closed.items())}


def _unpack_spent(content: dict[str, Any]) -> Spent:
    uses = {name: {number: TrialUse(*use) for number, *use in content[name]} for name in _USES}
    closed = defaultdict(float, {_read_workers(workers): seconds for workers, seconds in content["_closed"]})
    return Spent(**content | uses | {"_workers": _read_workers(content["_workers"]), "_closed": closed})


def _read_workers(content: dict[str, Any] | None) -> SessionWorkers | None:
    return None if content is None else SessionWorkers(**content)


def _unpack_steering(content: dict[str, Any]) -> Steering:
    orders = {name: {int(number): who for number, who in content[name].items()} for name in _ORDERS}
    enqueued = tuple(Enqueued(**one) for one in content["enqueued"])
    settings = {name: Setting(**one) for name, one in content["settings"].items()}
    sets = {name: frozenset(content[name]) for name in ("sources", "applied")}
    return Steering(**content | orders | sets | {"enqueued": enqueued, "settings": settings})
