"""The `search` section of a study file: which quantities are searched, over which values, by which sampler."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.strict import Strict

SEED = "training.seed"  # the recipe's key


class Dimension(Strict):
    """The values that a searched quantity may take, in exactly one of four forms."""

    uniform: tuple[float, float] | None = Field(None, description="[low, high], every value equally likely")
    log_uniform: tuple[float, float] | None = Field(None, description="[low, high], every magnitude equally likely")
    integer: tuple[int, int] | None = Field(None, description="[low, high], whole numbers, both ends included")
    choice: tuple[Any, ...] | None = Field(None, min_length=2, description="one of these values")

    @model_validator(mode="after")
    def _check_consistency(self) -> Dimension:
        forms = [form for form in type(self).model_fields if getattr(self, form) is not None]
        if len(forms) != 1:
            raise ValueError(
                f"a searched quantity has {len(forms)} forms, but must have one of uniform, log_uniform, integer, "
                "choice; write for example {uniform: [0.1, 0.6]}"
            )
        if self.choice is not None:
            if len({repr(value) for value in self.choice}) < len(self.choice):
                raise ValueError(f"choice is {list(self.choice)}, but must name each value once")
            return self
        low, high = self.range
        if low >= high:
            raise ValueError(f"{forms[0]} is [{low:g}, {high:g}], but must be [low, high] with low below high")
        if self.log_uniform and low <= 0:
            raise ValueError(f"log_uniform starts at {low:g}, but must start above 0; raise it or use uniform")
        return self

    @property
    def range(self) -> tuple[float, float]:
        """[low, high] of every form but choice."""
        range_ = self.uniform or self.log_uniform or self.integer
        assert range_ is not None
        return range_


class AuxiliarySettings(Strict):
    """How many auxiliary classifiers are tried, on which decoder layers, with which share of the loss."""

    count: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = Field(
        (0, 2), description="[fewest, most] auxiliary classifiers"
    )
    layers: tuple[int, ...] | None = Field(
        None, min_length=1, description="decoder layers that may carry one (1 = first); null = all but the last"
    )
    final_weight: tuple[float, float] = Field(
        (0.3, 0.9), description="[low, high] of the final classifier's share; the others divide the rest"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> AuxiliarySettings:
        fewest, most = self.count
        if fewest > most:
            raise ValueError(f"count is [{fewest}, {most}], but must be [fewest, most]; swap them")
        if self.layers is not None and list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers is {list(self.layers)}, but must be in ascending order, each layer once")
        low, high = self.final_weight
        setting = f"final_weight is [{low:g}, {high:g}]"
        if low <= 0:
            raise ValueError(f"{setting}, which leaves the final classifier nothing; raise the low end above 0")
        if high >= 1:
            raise ValueError(f"{setting}, which leaves auxiliary classifiers nothing; lower the high end below 1")
        if low > high:
            raise ValueError(f"{setting}, but must be [low, high]; swap them")
        return self


class SearchSettings(Strict):
    """Which quantities are searched, and by which sampler."""

    sampler: Literal["tpe", "random", "grid"] = Field("tpe", description="tpe is multivariate and grouped")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of all proposals")
    startup_trials: Annotated[int, Field(ge=0)] = Field(
        5,
        description="finished trials, baselines included, before TPE stops sampling at random; of each class that the "
        "study compares",
    )
    grid_points: Annotated[int, Field(ge=2)] = Field(3, description="values that the grid takes from each range")
    repeat_seed: bool = Field(
        True, description="a point that was tried before is trained again with another seed; false = with the same seed"
    )
    prior: str | None = Field(
        None,
        description="an earlier study, its file or folder relative to this file, perhaps of a smaller model: what "
        "it found best in each class is tried first, and placements near it are drawn more often. Its results do not "
        "count",
    )
    ctc_weight: Dimension | None = Field(None, description="a in L = a L_CTC + (1 - a) sum_i w_i L_i")
    auxiliary: AuxiliarySettings | None = None
    recipe: dict[str, Dimension] = Field({}, description="any other dotted recipe key")

    @model_validator(mode="after")
    def _check_keys(self) -> SearchSettings:
        if self.ctc_weight is not None and "loss.ctc_weight" in self.recipe:
            raise ValueError(
                "the CTC weight is searched twice, as 'ctc_weight' and as 'recipe: loss.ctc_weight'; remove one of them"
            )
        dotted = [key for key in self.recipe if key == "loss.auxiliary" or key.startswith("loss.auxiliary.")]
        if dotted:
            raise ValueError(
                f"'recipe' searches '{dotted[0]}', but placement and weights depend on each other; "
                "use 'auxiliary: {count: ..., layers: ..., final_weight: ...}' instead"
            )
        if self.prior is not None and self.sampler == "grid":
            raise ValueError("prior names an earlier study, but a grid tries every point anyway; use tpe or random")
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing is searched."""
        return self.ctc_weight is None and self.auxiliary is None and not self.recipe
