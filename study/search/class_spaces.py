"""The search space of each class of recipes that a study compares: the same quantities, but for the classifiers."""

from __future__ import annotations

from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from study.config.baselines import make_baseline
from study.config.question import DECRED, INTERCTC
from study.config.search_settings import SearchSettings
from study.search.space import Space


def make_class_space(name: str, search: SearchSettings, base: Recipe) -> Space:
    """The space of a class around the base recipe; a UserError where the base recipe cannot carry its losses."""
    if search.auxiliary is not None:
        fewest, most = search.auxiliary.count
        search = _with_counts(search, (max(1, fewest), most) if name == DECRED else (0, 0))
    if name == INTERCTC:
        content = make_baseline(INTERCTC, base).loss.inter_ctc.model_dump(mode="json")
        base = with_values(base, {"loss.inter_ctc": content})
    return Space(search, base)


def make_whole_space(search: SearchSettings, base: Recipe, classes: list[str]) -> Space:
    """The space that describes the trials of all classes: none of them has classifiers beyond `search.auxiliary`."""
    if classes and search.auxiliary is not None:
        search = _with_counts(search, (0, search.auxiliary.count[1]))
    return Space(search, base)


def _with_counts(search: SearchSettings, count: tuple[int, int]) -> SearchSettings:
    assert search.auxiliary is not None
    return search.model_copy(update={"auxiliary": search.auxiliary.model_copy(update={"count": count})})
