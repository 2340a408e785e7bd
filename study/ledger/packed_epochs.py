"""Reports of trials in one array of doubles, made into values when they are looked at: most of them never are."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar, cast, overload

from study.ledger.epochs import EpochReport, Figures, Seconds, TrialEpoch

_SECONDS = ("training", "validation", "decoding", "waiting")
_SCALARS = 3 + len(_SECONDS)  # doubles before a report's metrics: its time, epoch and step, and these
Name = TypeVar("Name")
_NONE = math.nan  # in the array; what is not known is never NaN


class Alike(NamedTuple):
    """Reports of a trial in a row that differ in figures alone."""

    reports: int  # how many
    is_event: bool  # of the trial's own; others came with it from another study
    node: str | None
    device: str | None
    names: int  # which of the lists of metrics


class Packer:
    """Packs the reports of one trial after another."""

    def __init__(self) -> None:
        self.figures, self._names = array("d"), dict[tuple[str, ...], int]()

    @property
    def names(self) -> list[tuple[str, ...]]:
        """The lists of metrics."""
        return list(self._names)

    def pack(self, reports: Iterable[EpochReport]) -> list[Alike]:
        """Add a trial's reports."""
        return [self._pack_alike(alike, group) for alike, group in groupby(reports, self._describe)]

    def _pack_alike(self, alike: Alike, reports: Iterable[EpochReport]) -> Alike:
        count, figures = 0, self.figures
        for report in reports:
            seconds = report.seconds
            optional = (report.step, seconds.training, seconds.validation, seconds.decoding, seconds.waiting)
            figures.extend((report.time, report.epoch))
            figures.extend([_NONE if value is None else value for value in optional])
            cast(Figures, report.metrics).add_to(figures)
            count += 1
        return alike._replace(reports=count)

    def _describe(self, report: EpochReport) -> Alike:
        names = self._names.setdefault(tuple(report.metrics), len(self._names))
        return Alike(0, isinstance(report, TrialEpoch), report.node, report.device, names)


class Unpacker:
    """Gives the reports of one trial after another, in the order in which they were packed."""

    def __init__(self, figures: array[float], names: Iterable[Sequence[str]]) -> None:
        self._figures, self._places, self._at = figures, [Figures.place(tuple(one)) for one in names], 0

    def unpack(self, number: int, packed: Iterable[Sequence[Any]]) -> Sequence[EpochReport]:
        """The next trial's reports."""
        parts = []
        for count, *about, names in packed:
            places, start = self._places[names], self._at
            self._at += count * (_SCALARS + len(places))
            parts.append((range(start, self._at, _SCALARS + len(places)), *about, places))
        return PackedReports(self._figures, number, parts) if parts else ()


def pack_reports(number: int, reports: Iterable[EpochReport]) -> Sequence[EpochReport]:
    """The reports of one trial, with an array of their own."""
    packer = Packer()
    packed = packer.pack(reports)
    return Unpacker(packer.figures, packer.names).unpack(number, packed)


class PackedReports(Sequence[EpochReport]):
    """The reports of one trial. Equal to a tuple of the same reports."""

    __slots__ = ("_figures", "_number", "_parts")

    def __init__(self, figures: array[float], number: int, parts: list[Any]) -> None:
        """`parts`: where each report begins, whether it is the trial's own, its node, device and names' places."""
        self._figures, self._number, self._parts = figures, number, parts

    def curve(self, metric: str) -> dict[int, float]:
        """The metric by epoch, where it was reported."""
        found: dict[int, float] = {}
        for starts, *_, places in self._parts:
            epochs = self._figures[starts.start + 1 : starts.stop : starts.step]
            if metric in places:
                values = self._figures[starts.start + _SCALARS + places[metric] : starts.stop : starts.step]
                found |= _name(map(int, epochs), values)
        return found

    def find_last_epoch(self) -> int:
        """The number of the last one."""
        return int(self._figures[self._parts[-1][0][-1] + 1])

    def find_last_metrics(self) -> dict[str, float]:
        """Those of the last report."""
        starts, *_, places = self._parts[-1]
        return _name(places, self._figures[starts[-1] + _SCALARS : starts.stop])

    @overload
    def __getitem__(self, index: int) -> EpochReport: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[EpochReport, ...]: ...
    def __getitem__(self, index: int | slice) -> EpochReport | tuple[EpochReport, ...]:
        if index == -1:  # the one that is asked for most
            starts, *about = self._parts[-1]
            return self._make(starts[-1], *about)
        return self._all()[index]

    def __iter__(self) -> Iterator[EpochReport]:
        return iter(self._all())

    def __len__(self) -> int:
        return sum(len(starts) for starts, *_ in self._parts)

    def __eq__(self, other: object) -> bool:
        return self._all() == tuple(other) if isinstance(other, tuple | PackedReports) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._all(),)  # without the figures of all other trials

    def _all(self) -> tuple[EpochReport, ...]:
        return tuple(self._make(start, *about) for starts, *about in self._parts for start in starts)

    def _make(
        self, start: int, is_event: bool, node: str | None, device: str | None, places: dict[str, int]
    ) -> EpochReport:
        end = start + _SCALARS
        time, epoch, *optional = self._figures[start:end]
        step, *seconds = (None if value != value else value for value in optional)
        content: dict[str, Any] = {
            "time": time,
            "epoch": int(epoch),
            "step": None if step is None else int(step),
            "metrics": Figures.restore(places, self._figures[end : end + len(places)]),
            "seconds": _fill(Seconds, dict(zip(_SECONDS, seconds, strict=True))),
            "node": node,
            "device": device,
        }
        if is_event:
            return _fill(TrialEpoch, content | {"kind": "trial_epoch", "number": self._number})
        return _fill(EpochReport, content)


def _name(names: Iterable[Name], values: Iterable[float]) -> dict[Name, float]:
    """NaN is always the same one, as elsewhere, so that dicts of these are equal, too."""
    named = dict(zip(names, values, strict=True))
    if math.isnan(sum(named.values())):
        return {name: value if value == value else math.nan for name, value in named.items()}
    return named


def _fill(kind: type[Any], content: dict[str, Any]) -> Any:
    """A frozen value of these fields, without a look at them: its constructor takes five times as long."""
    value = object.__new__(kind)
    for name, field in content.items():
        object.__setattr__(value, name, field)
    return value
