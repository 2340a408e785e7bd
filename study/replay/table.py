"""The table that is replayed: every training with its curve, what each part of it cost, and what it was worth."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from model.errors import UserError
from model.recipe.recipe import Recipe
from study.config.search_settings import SEED
from study.config.study_file import StudyFile
from study.ledger.best import rank_trials
from study.ledger.records import TrialRecord, TrialState
from study.replay.recorded import RecordedStudy
from study.search.quantity import Point
from study.search.space import Space

FEWEST = 4  # configurations; with fewer there is nothing to search
_INTERRUPTED = 3.0  # times what an epoch itself took: more between two reports means that the trial stood in between


@dataclass(frozen=True)
class Training:
    """One training: `costs` are the seconds of each epoch, `end_cost` those of final decoding and its search."""

    configuration: int
    record: TrialRecord
    figure: float  # what its own study ranked it by
    costs: tuple[float, ...]
    end_cost: float

    @property
    def point(self) -> Point:
        return self.record.point or {}


@dataclass(frozen=True)
class Table:
    """The trainings of one or more studies of one space."""

    study: StudyFile
    base: Recipe
    trainings: tuple[Training, ...]
    metric: str  # of the figures
    concurrency: int
    start_cost: float  # seconds before the first step: what a trial that was paused pays again

    @property
    def configurations(self) -> list[int]:
        return sorted({training.configuration for training in self.trainings})

    def of_configuration(self, configuration: int) -> list[Training]:
        return [training for training in self.trainings if training.configuration == configuration]

    def worth(self, training: Training) -> float:
        """What a configuration is worth that was found by this training: the mean of its other seeds.

        The figure of the training itself only where it has no others: being the best of many, it would be luck.
        """
        others = [other.figure for other in self.of_configuration(training.configuration) if other is not training]
        return statistics.fmean(others) if others else training.figure

    def best(self) -> float:
        """The figure of the best configuration: the lowest mean over all its seeds."""
        means = [
            statistics.fmean(training.figure for training in self.of_configuration(configuration))
            for configuration in self.configurations
        ]
        return min(means)

    def half(self, which: int) -> Table:
        """Every second configuration, from the first or the second on: to choose by one half and report on the other.

        Baselines are in both.
        """
        named = {training.configuration for training in self.trainings if training.record.baseline}
        sampled = [configuration for configuration in self.configurations if configuration not in named]
        kept = named | set(sampled[which::2])
        return replace(self, trainings=tuple(t for t in self.trainings if t.configuration in kept))


def make_table(studies: Sequence[RecordedStudy]) -> Table:
    """The complete trainings of the studies; a UserError where they cannot be replayed together."""
    first = studies[0]
    space = Space(first.study.search, first.base)
    for other in studies[1:]:
        if other.study.objective != first.study.objective or _dump_space(other) != _dump_space(first):
            raise UserError(
                f"studies '{first.study.name}' and '{other.study.name}' have another space or objective, so their "
                "trials are no table together; replay them one by one"
            )
    records = [record for study in studies for record in study.records]
    numbered = [replace(record, number=number) for number, record in enumerate(records)]
    ranking = rank_trials(numbered, first.study.objective)
    usable = [record for record in numbered if record.number in ranking.figures and record.epochs]
    keys: dict[object, int] = defaultdict(lambda: len(keys))
    ends = statistics.median([_gap(record.epochs[-1].time, record.ended) for record in usable] or [0.0])
    trainings = []
    for record in usable:
        costs, end = _cost(record)
        configuration = keys[_make_key(record)]
        figure = ranking.figures[record.number]
        # Longer than usual means that the study stood still meanwhile.
        trainings.append(Training(configuration, record, figure, costs, min(end, _INTERRUPTED * ends)))
    table = Table(
        first.study, space.base, tuple(trainings), ranking.metric, first.concurrency, _find_start_cost(trainings)
    )
    if len(table.configurations) < FEWEST:
        unfinished = sum(record.state is TrialState.PRUNED for record in records)
        pruned = f" and {unfinished} pruned ones" if unfinished else ""
        raise UserError(
            f"replay needs {FEWEST} configurations that ran to their end, but was given {len(table.configurations)}"
            f"{pruned}; run a study with `early_stopping: {{rule: none}}`"
        )
    return table


def _dump_space(recorded: RecordedStudy) -> dict[str, object]:
    return recorded.study.search.model_dump(include={"ctc_weight", "auxiliary", "recipe"})


def _make_key(record: TrialRecord) -> object:
    """Equal for trainings that differ in their seed alone."""
    source = {name: value for name, value in (record.point or record.values).items() if name != SEED}
    return frozenset((name, f"{value:.6g}" if isinstance(value, float) else value) for name, value in source.items())


def _cost(record: TrialRecord) -> tuple[tuple[float, ...], float]:
    """The seconds of each epoch, the start within the first one's, and those after the last."""
    costs, before = [], record.started
    for report in record.epochs:
        own, gap = _own_seconds(report.seconds.training, report.seconds.validation), _gap(before, report.time)
        costs.append(gap if own is None or gap <= _INTERRUPTED * own else own)
        before = report.time
    return tuple(costs), _gap(before, record.ended)


def _own_seconds(training: float | None, validation: float | None) -> float | None:
    return None if training is None else training + (validation or 0.0)


def _gap(before: float | None, after: float | None) -> float:
    return max(0.0, after - before) if before and after else 0.0


def _find_start_cost(trainings: Sequence[Training]) -> float:
    """The median of what the first epoch took beyond its own training and validation."""
    starts = []
    for training in trainings:
        seconds = training.record.epochs[0].seconds
        own = _own_seconds(seconds.training, seconds.validation)
        if own is not None and math.isfinite(training.costs[0]):
            starts.append(max(0.0, training.costs[0] - own))
    return statistics.median(starts) if starts else 0.0
