"""What an earlier study found, as a prior of this one: its best configurations are tried first in each class, and after
that some placements are drawn near theirs, the fewer the more trials this study has to learn from. Its results never
count here.

Studies may differ in model and space. A placement goes by relative depth, a classifier's layer over the decoder's
layers; a value that this study's search does not hold becomes the nearest one that it does.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from model.errors import UserError
from study.config.places import study_folder
from study.config.search_settings import SearchSettings
from study.config.study_file import read_study
from study.ledger.best import rank_trials
from study.ledger.events import Found, PriorRead
from study.ledger.ledger import Ledger
from study.search.classifiers import AUXILIARY
from study.search.quantity import Point, same_point
from study.search.space import Space

MOST = 4  # configurations of each class that are looked at
TRIED_FIRST = 2  # of these, in each class
SHARE = 0.5  # of the placements that are drawn near what was found, before the sampler has learnt anything


def read_prior(path: str, spaces: Mapping[str, Space]) -> PriorRead:
    """The best of what the study at `path`, a folder or a study file, found for each class: best first, as points of
    the class's space. A UserError where there is no such study, or it found nothing."""
    try:
        return _find_best(_open(Path(path)), spaces)
    except UserError as error:
        raise UserError(f"search.prior: {error}") from None


def _open(path: Path) -> Ledger:
    return Ledger.open(path if path.is_dir() else study_folder(read_study(path)))


def _find_best(earlier: Ledger, spaces: Mapping[str, Space]) -> PriorRead:
    found: list[Found] = []
    for name, space in spaces.items():
        records = [record for record in earlier.trials.values() if name in ("", record.recipe_class)]
        figures = rank_trials(records, earlier.study.objective).figures
        points: list[Point] = []
        for number in sorted(figures, key=lambda number: (figures[number], number))[:MOST]:
            point = space.approximate(earlier.read_recipe(earlier.trials[number]))
            if not _holds(points, point):
                points.append(point)
                found.append(Found(recipe_class=name, trial=number, point=point))
    if not found:
        of_class = f" of the class {' or '.join(spaces)}" if any(spaces) else ""
        raise UserError(
            f"study '{earlier.study.name}' in {earlier.folder} has no complete trial{of_class}; leave the key out"
        )
    return PriorRead(study=str(earlier.folder), found=tuple(found))


def list_found(prior: PriorRead | None, name: str) -> list[Point]:
    """The points that were found for a class, best first."""
    return [] if prior is None else [dict(one.point) for one in prior.found if one.recipe_class == name]


def list_tried_first(found: Sequence[Point], tried: Sequence[Point]) -> list[Point]:
    """Of what was found for a class, what comes before anything is drawn, and is not yet among the points `tried`."""
    return [point for point in found[:TRIED_FIRST] if not _holds(tried, point)]


def draw_near(
    point: Point, found: Sequence[Point], space: Space, search: SearchSettings, number: int, tried: int
) -> Point:
    """The point that a sampler drew for trial `number`, or with the odds of the prior one whose classifiers are near
    those that were found. `tried` is how many trials the class has to learn from."""
    generator = random.Random(f"prior {search.seed} {number}")
    worth = 2 * search.startup_trials + 1  # of the prior, in trials of this study
    odds = SHARE if search.sampler == "random" else SHARE * worth / (worth + tried)
    if not found or generator.random() >= odds:
        return point
    near = space.draw_classifiers_near(generator.choice(found), generator)
    return {name: value for name, value in point.items() if not name.startswith(AUXILIARY)} | near


def _holds(points: Iterable[Point], point: Point) -> bool:
    return any(same_point(point, other) for other in points)
