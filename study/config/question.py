"""The question of a study: two classes of recipes that are searched alike and then compared.

| class      | its recipes                                                              |
|------------|--------------------------------------------------------------------------|
| `ed`       | no auxiliary classifier                                                  |
| `decred`   | one auxiliary classifier or more                                         |
| `interctc` | no auxiliary classifier, but a CTC loss of a middle encoder layer as well |
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from model.recipe.recipe import Recipe
from model.strict import Strict

Question = Literal["decred against ed", "interctc against ed", "decred against interctc", "none"]
ED, DECRED, INTERCTC = "ed", "decred", "interctc"


class ConfirmationSettings(Strict):
    """Once the search is over: whose configurations are trained again with new seeds, the same for all."""

    finalists: Annotated[int, Field(ge=1)] = Field(1, description="the best trials of each class")
    seeds: Annotated[int, Field(ge=0)] = Field(
        3, description="that each finalist is trained with; with fewer than 3 nothing is said of configurations"
    )


def list_classes(question: str) -> list[str]:
    """The classes that a question compares, the first one first."""
    return [] if question == "none" else question.split(" against ")


def class_of(recipe: Recipe) -> str:
    """The class that a recipe belongs to."""
    if recipe.loss.auxiliary.placement:
        return DECRED
    return INTERCTC if recipe.loss.inter_ctc.layers else ED
