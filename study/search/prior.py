"""What an earlier study found, as a prior of this one: its best configurations are tried first in each class, and while
points are drawn at random, half of the placements are near theirs. Its results never count here.

Studies may differ in model and space. A placement goes by relative depth, a classifier's layer over the decoder's
layers; a value outside a range becomes its nearest end; what the earlier study did not search has its recipe's value.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.errors import UserError
from study.config.places import study_folder
from study.config.study_file import read_study
from study.ledger.best import rank_trials
from study.ledger.events import Found, PriorRead
from study.ledger.ledger import Ledger
from study.search.classifiers import AUXILIARY
from study.search.quantity import Point, same_point
from study.search.space import Space

MOST = 4  # configurations of each class that are looked at
TRIED_FIRST = 2  # of these, in each class
SHARE = 0.5  # of the placements that are drawn near what was found


def open_prior(path: Path) -> Ledger:
    """The earlier study that `search.prior` names, a folder or a study file; a UserError where there is none."""
    try:
        return Ledger.open(path if path.is_dir() else study_folder(read_study(path)))
    except UserError as error:
        raise UserError(f"search.prior: {error}") from None


def read_prior(earlier: Ledger, spaces: Mapping[str, Space]) -> PriorRead:
    """The best of what the earlier study found for each class, best first, as points of the class's space."""
    found: list[Found] = []
    for name, space in spaces.items():
        records = [record for record in earlier.trials.values() if name in ("", record.recipe_class)]
        figures = rank_trials(records, earlier.study.objective).figures
        points: list[Point] = []
        for number in sorted(figures, key=lambda number: (figures[number], number))[:MOST]:
            point = space.approximate(earlier.read_recipe(earlier.trials[number]))
            if not any(same_point(point, other) for other in points):
                points.append(point)
                found.append(Found(recipe_class=name, trial=number, point=point))
    if not found:
        raise UserError(
            f"search.prior: study '{earlier.study.name}' in {earlier.folder} has no complete trial; leave it out"
        )
    return PriorRead(study=str(earlier.folder), found=tuple(found))


def list_found(prior: PriorRead | None, name: str) -> list[Point]:
    """The points that were found for a class, best first."""
    return [] if prior is None else [dict(one.point) for one in prior.found if one.recipe_class == name]


def list_untried(found: Sequence[Point], tried: Sequence[Point]) -> list[Point]:
    """Those that are still to be tried first."""
    return [point for point in found[:TRIED_FIRST] if not any(same_point(point, other) for other in tried)]


def draw_near(point: Point, found: Sequence[Point], space: Space, generator: random.Random) -> Point:
    """A point that was drawn at random, in a share of all cases with classifiers near those that were found."""
    if not found or generator.random() >= SHARE:
        return point
    near = space.draw_classifiers_near(generator.choice(found), generator)
    return {name: value for name, value in point.items() if not name.startswith(AUXILIARY)} | near
