"""What is known of a trial: a frozen value, made by `trials.Trials` from a study's events."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic_core import from_json, to_json

from study.ledger.events import EpochReport, TrialState
from study.ledger.packed_epochs import PackedReports

__all__ = ["TrialRecord", "TrialState", "change", "pack_tried"]

_FAST = 1  # the level of compression: higher ones take several times as long for a tenth


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial: what it tried and what came of it."""

    number: int
    state: TrialState = TrialState.RUNNING
    reason: str | None = None
    baseline: str | None = None
    values: dict[str, Any] = field(default_factory=dict)  # the searched quantities, for people
    point: dict[str, Any] | None = None  # in the search space, as it was drawn; None where it is not known
    recipe_class: str = ""  # ed, decred or interctc; empty where it is not known
    confirms: int | None = None  # the finalist that it trains again with another seed
    recipe_hash: str = ""
    epochs: Sequence[EpochReport] = ()
    metrics: dict[str, float] = field(default_factory=dict)  # the last epoch's, and above them the final ones
    final_metrics: dict[str, float] = field(default_factory=dict)  # of the chosen weights, once it has ended
    rescored: dict[str, float] = field(default_factory=dict)  # Unix seconds, of those that changed after its end
    planned_epochs: int | None = None  # that the recipe asks for; None where it is not known
    started: float | None = None  # Unix seconds
    ended: float | None = None  # Unix seconds
    retries: int = 0  # times that it continued after losing its workers, in all
    retries_here: int = 0  # since it last reported an epoch that it had not reached before
    furthest_epoch: int = 0  # that it has ever reported
    lost_seconds: float = 0.0  # of training that had to be repeated
    source: str | None = None  # "study/number" of a trial that came by `fork`
    decoding_hash: str = ""  # of its final decoding
    found_decoding: dict[str, Any] | None = None  # the best of `tried_decodings` on the dev sets
    tried: bytes = b""  # `tried_decodings` in a tenth of its memory; only reports and few others ask for them
    decoding_stages: tuple[dict[str, Any], ...] = ()  # how far they were searched, with the figures of each stage
    training_of: int | None = None  # the trial whose training it shares
    was_decoded: bool = False  # whether its decoding was run again after its end, for the test sets
    paused_at: int | None = None  # the epoch after which it was paused last
    enqueued_by: str | None = None  # a person, where no sampler proposed it
    notes: tuple[str, ...] = ()  # what people noted about it, and who

    @property
    def tried_decodings(self) -> tuple[dict[str, Any], ...]:
        """What its search for a decoding tried: each a decoding, its figures and its seconds."""
        return tuple(from_json(zlib.decompress(self.tried))) if self.tried else ()

    @property
    def epoch(self) -> int:
        """The last epoch that was reported; 0 before the first."""
        if isinstance(self.epochs, PackedReports):
            return self.epochs.find_last_epoch()
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def has_tests(self) -> bool:
        """Whether its test sets were scored, also where the corpus has none."""
        return self.was_decoded or any(name.startswith("test/") for name in self.final_metrics)

    @property
    def has_all_epochs(self) -> bool:
        """Whether it has reported the last epoch of its recipe."""
        return self.state is TrialState.COMPLETE or (bool(self.epochs) and self.epoch == self.planned_epochs)

    @property
    def reports(self) -> dict[int, Mapping[str, float]]:
        """All reported metrics by epoch."""
        return {report.epoch: report.metrics for report in self.epochs}

    def curve(self, metric: str) -> dict[int, float]:
        """The metric by epoch, where it was reported."""
        if isinstance(self.epochs, PackedReports):
            return self.epochs.curve(metric)
        return {report.epoch: report.metrics[metric] for report in self.epochs if metric in report.metrics}


def pack_tried(tried: Iterable[Mapping[str, Any]]) -> bytes:
    """The field `tried`."""
    content = list(tried)
    return zlib.compress(to_json(content, inf_nan_mode="null"), _FAST) if content else b""


def change(record: TrialRecord, **changes: Any) -> TrialRecord:
    """As `dataclasses.replace`, in a third of its time: it is most of what the fold of a long ledger does."""
    changed = object.__new__(TrialRecord)
    for name, slot in _SLOTS:
        slot.__set__(changed, changes[name] if name in changes else slot.__get__(record))
    return changed


_SLOTS = [(field.name, getattr(TrialRecord, field.name)) for field in fields(TrialRecord)]
