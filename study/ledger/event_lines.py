"""Events as lines of an event file: the only place that knows how they are written and read.

An event file holds one JSON object a line, with `time` (Unix seconds) and `kind`. A kind that a newer version added is
refused by its name, because what it changes is not known here. Lines of format 1 (`events.jsonl`, before version 0.2)
are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from study.ledger.events import AnyEvent

KINDS: dict[str, type[Any]] = {cls.__pydantic_fields__["kind"].default: cls for cls in get_args(AnyEvent)}
_ADAPTERS = {kind: TypeAdapter(cls) for kind, cls in KINDS.items()}
_READERS = {kind: adapter.validator.validate_python for kind, adapter in _ADAPTERS.items()}
_FORMAT_1 = {"study_started": "session_started"}  # kinds that had another name


class UnknownKindError(Exception):
    """An event of a kind that this version does not know."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the event's kind is '{kind}'")
        self.kind = kind


def to_line(event: AnyEvent) -> bytes:
    """The event as a line of an event file, line end included; fields without a value are left out."""
    return _ADAPTERS[event.kind].dump_json(event, exclude_none=True) + b"\n"


def from_line(line: bytes | str) -> AnyEvent:
    """The event in a line. A ValueError where the line is damaged, an UnknownKindError where its kind is not known."""
    content = from_json(line)  # several times faster than Python's own
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str):
        raise ValueError("it holds no event")
    kind = str(_FORMAT_1.get(content["kind"], content["kind"]))
    if kind not in KINDS:
        raise UnknownKindError(kind)
    if "time" not in content:
        raise ValueError("it has no time")
    try:
        event: AnyEvent = _READERS[kind](_of_format_1(content, kind))
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["msg"])) from None
    return event


def _of_format_1(content: dict[str, Any], kind: str) -> dict[str, Any]:
    """Format 1 wrote null for what has a default now, and the seconds of an epoch among its metrics."""
    kept = content
    if kept["kind"] != kind or None in kept.values():
        kept = {name: value for name, value in content.items() if value is not None} | {"kind": kind}
    metrics = kept.get("metrics")
    if kind == "trial_epoch" and "seconds" not in kept and isinstance(metrics, Mapping):
        kept = kept | {"seconds": {"training": metrics.get("train/seconds"), "validation": metrics.get("dev/seconds")}}
    return kept
