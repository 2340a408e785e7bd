"""What is replayed: a sampler with a stopping rule, or with the best after a single epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from model.errors import UserError
from model.strict import unknown_name, validate
from study.config.run_settings import EarlyStoppingSettings
from study.config.search_settings import SearchSettings
from study.config.study_file import StudyFile
from study.early_stopping.rule import Rule, Ruling

TOP = "top"  # the rule that trains all for one epoch and continues the best
TOP_SHARE = 5  # one trial in this many continues


@dataclass(frozen=True)
class Strategy:
    """A sampler, and when trials are stopped. `top_epoch` names the one epoch of `top`."""

    sampler: str
    early_stopping: EarlyStoppingSettings = field(default_factory=lambda: EarlyStoppingSettings(rule="none"))
    top_epoch: int | None = None

    @property
    def name(self) -> str:
        if self.top_epoch is not None:
            return f"{self.sampler} + top fifth of epoch {self.top_epoch}"
        rule = self.early_stopping.rule
        return f"{self.sampler} to the end" if rule == "none" else f"{self.sampler} + {rule}"

    def make_rule(self, trials: int, objective: str) -> Rule | None:
        """The rule where it is none of the study's own."""
        if self.top_epoch is None:
            return None
        return TopOfOneEpoch(self.top_epoch, max(1, math.ceil(trials / TOP_SHARE)), objective)


def choose_strategies(
    study: StudyFile,
    samplers: Sequence[str] | None = None,
    rules: Sequence[str] | None = None,
    grace_epochs: int | None = None,
    reduction: int | None = None,
    top_epoch: int = 1,
) -> list[Strategy]:
    """Every sampler with every rule, or the usual strategies where none is named; random to the end comes first.

    A UserError for a name that is unknown.
    """
    settings = study.early_stopping
    changes = {"grace_epochs": grace_epochs, "reduction": reduction}
    settings = settings.model_copy(update={name: value for name, value in changes.items() if value is not None})
    if samplers is None and rules is None:
        pairs = [("random", "none"), ("random", TOP), ("tpe", "none"), *(("tpe", rule) for rule in _list_rules())]
    else:
        pairs = [(sampler, rule) for sampler in samplers or ["tpe"] for rule in rules or ["none"]]
        pairs = [("random", "none"), *(pair for pair in pairs if pair != ("random", "none"))]
    return [_make_strategy(sampler, rule, settings, top_epoch) for sampler, rule in pairs]


def _make_strategy(sampler: str, rule: str, settings: EarlyStoppingSettings, top_epoch: int) -> Strategy:
    known = [name for name in get_args(SearchSettings.model_fields["sampler"].annotation) if name != "grid"]
    _check_name("--sampler", sampler, known)
    _check_name("--rule", rule, ["none", TOP, *_list_rules()])
    if rule == TOP:
        return Strategy(sampler, top_epoch=top_epoch)
    found_itself = {"metric", "grace_epochs", "reduction"} if rule == "evidence" else set()
    content = settings.model_dump(exclude=found_itself) | {"rule": rule}
    return Strategy(sampler, validate(EarlyStoppingSettings, content, "--rule"))


def _check_name(option: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise UserError(f"{option} is '{name}', which cannot be replayed; {unknown_name(name, known)}")


def _list_rules() -> list[str]:
    """The rules of study files, but for `none`."""
    return [name for name in get_args(EarlyStoppingSettings.model_fields["rule"].annotation) if name != "none"]


class TopOfOneEpoch:
    """All trials train for one epoch; when all have, the best `keep` continue to their end (arXiv 2307.15422)."""

    def __init__(self, epoch: int, keep: int, metric: str) -> None:
        self._epoch, self._left, self._metric = epoch, keep, metric
        self._waiting: dict[int, float] = {}
        self._is_closed = False

    def decide(self, number: int, epoch: int, metrics: Mapping[str, float], *, baseline: bool, last: bool) -> Ruling:
        if epoch != self._epoch or baseline or last:
            return Ruling.CONTINUE
        value = metrics[self._metric]
        self._waiting[number] = value if math.isfinite(value) else math.inf
        return Ruling.PAUSE

    def explain(self, number: int) -> str | None:
        return None

    def remove(self, number: int) -> None:
        self._waiting.pop(number, None)

    def override(self, number: int, ended: bool) -> None:
        self._waiting.pop(number, None)

    def promote_next(self, closed: bool = False) -> int | None:
        self._is_closed |= closed
        if not self._left or not self._waiting or not self._is_closed:
            return None
        self._left -= 1
        best = min(self._waiting, key=lambda number: (self._waiting[number], number))
        del self._waiting[best]
        return best
