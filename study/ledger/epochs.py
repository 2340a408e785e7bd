"""What a trial reports after an epoch, in little memory: a study keeps every report of all its trials.

A report of twenty metrics takes about half a kilobyte, where a model of pydantic's with a dict takes four.
"""

from __future__ import annotations

import math
import sys
import time
from array import array
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, GetPydanticSchema
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, core_schema

_CONFIG = ConfigDict(extra="ignore", ser_json_inf_nan="null")
_PLACES: dict[tuple[str, ...], dict[str, int]] = {}  # of each name, shared by all figures with the same names


class Figures(Mapping[str, float]):
    """Figures by name, a frozen mapping. One that is not finite is null in a file; NaN equals NaN."""

    __slots__ = ("_places", "_values")

    def __init__(self, figures: Mapping[str, float | None] | None = None) -> None:
        """None is a figure that is not finite."""
        values: Any = tuple((figures or {}).values())
        self._places = self.place(tuple(figures or ()))
        try:
            self._values = array("d", values)
        except TypeError:
            self._values = array("d", [math.nan if value is None else value for value in values])

    @staticmethod
    def place(names: tuple[str, ...]) -> dict[str, int]:
        """The place of each name, for `restore`."""
        return _PLACES.get(names) or _PLACES.setdefault(names, {name: at for at, name in enumerate(names)})

    @classmethod
    def restore(cls, places: dict[str, int], values: array[float]) -> Figures:
        """Figures whose names have these places, without a look at their values."""
        figures = cls.__new__(cls)
        figures._places, figures._values = places, values
        return figures

    def add_to(self, values: array[float]) -> None:
        """Append the values as a file has them: one that is not finite is NaN when it is read."""
        all_finite = math.isfinite(sum(self._values))
        values.extend(self._values if all_finite else (one if math.isfinite(one) else math.nan for one in self._values))

    def to_dict(self) -> dict[str, float]:
        """The same as a dict."""
        return dict(zip(self._places, self._values, strict=True))

    def __getitem__(self, name: str) -> float:
        # NaN is always the same one, so that dicts of these are equal, too.
        return value if (value := self._values[self._places[name]]) == value else math.nan

    def get(self, name: str, default: Any = None) -> Any:
        """As of any mapping; for a name that is not there the inherited method raises, and takes five times as long."""
        return self[name] if name in self._places else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.keys() == other.keys() and all(_is_same(value, other[name]) for name, value in self.items())

    def __hash__(self) -> int:
        return hash(frozenset(self._places))

    def __repr__(self) -> str:
        return repr(dict(self))


def _is_same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)


def _describe_figures(source: Any, handler: Any) -> CoreSchema:
    """In a file, and where they are given: names, each with a number or null."""
    content = core_schema.dict_schema(core_schema.str_schema(), core_schema.nullable_schema(core_schema.float_schema()))
    written = core_schema.plain_serializer_function_ser_schema(Figures.to_dict, return_schema=content)
    return core_schema.no_info_after_validator_function(Figures, content, serialization=written)


Metrics = Annotated[Mapping[str, float], GetPydanticSchema(_describe_figures)]  # always `Figures`
Name = Annotated[str, AfterValidator(sys.intern)]  # of few hosts and devices, in many reports


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Seconds:
    """Where the time of an epoch went; null where it was not measured."""

    training: float | None = None
    validation: float | None = None
    decoding: float | None = None
    waiting: float | None = None  # from a report to the driver's answer


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class EpochReport:
    """What a trial reported after an epoch; `step` counts optimiser steps since the start of training."""

    time: float = 0.0  # Unix seconds
    epoch: int
    step: int | None = None
    metrics: Metrics = Figures()
    seconds: Seconds = Seconds()
    node: Name | None = None  # the host of worker 0
    device: Name | None = None  # of worker 0: cpu, or the GPU's name


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class TrialEpoch(EpochReport):
    """A trial reported an epoch. One that comes again replaces its first report and what followed it."""

    kind: Literal["trial_epoch"] = "trial_epoch"
    time: float = Field(default_factory=lambda: round(time.time(), 3))
    number: int
