"""The part of a recipe that says which weights of `init_from` a training starts from; all others start fresh."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from model.strict import Strict


def _check_pattern(pattern: str) -> str:
    if re.fullmatch(r"(?:[A-Za-z0-9_.*?]|\[[^][]+\])+", pattern) is None:
        raise ValueError(
            f"'{pattern}' is no pattern of tensor names; write names with * for any characters, ? for one and [0-3] "
            "for one of some, as in encoder.layers.[0-3].*"
        )
    return pattern


def _check_stars(pattern: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.*]+", pattern) is None:
        raise ValueError(
            f"'{pattern}' cannot be renamed by; write a name in which * alone stands for others, as in "
            "decoder.layers.5.*"
        )
    return pattern


Pattern = Annotated[str, AfterValidator(_check_pattern)]
StarPattern = Annotated[str, AfterValidator(_check_stars)]


class InitialisationConfig(Strict):
    """What is taken from the weights in `init_from`; everything else starts fresh.

    Patterns are of the names of the model's tensors: `encoder.*`, `ctc.*`, `decoder.*`, `decoder.layers.0.*` (0 =
    first). `*` stands for any characters. An auxiliary classifier has the name of its layer as in
    `loss.auxiliary.placement`: `decoder.auxiliary.layer_3.weight`.
    """

    take: tuple[Pattern, ...] = Field(
        ("*",), description="patterns of the tensors that are taken; [] takes none, as if there were no init_from"
    )
    leave: tuple[Pattern, ...] = Field(
        (), description="patterns of tensors that start fresh all the same, though `take` names them"
    )
    rename: tuple[tuple[StarPattern, StarPattern], ...] = Field(
        (),
        description="[there, here] pairs: tensors of the weights that match the first pattern go to the second, whose "
        "* are filled in order; [decoder.layers.5.*, decoder.layers.3.*] makes their sixth layer the fourth one here. "
        "With several pairs a tensor goes to several places",
    )
    unfit: Literal["refuse", "leave"] = Field(
        "refuse",
        description="tensors to be taken that one side lacks, or that have another shape or meaning (heads, special "
        "tokens): refuse them, or leave them to start fresh",
    )
    vocabulary: Literal["by_id", "by_piece", "leave"] = Field(
        "by_id",
        description="rows of the embedding, of the classifiers and of the CTC head: taken by token id; by_piece, where "
        "both tokenizers have the same piece (others start fresh); or left to start fresh",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> InitialisationConfig:
        for name in ("take", "leave", "rename"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} is {_write(values)}, but must name each pattern once")
        for there, here in self.rename:
            if there.count("*") != here.count("*"):
                raise ValueError(
                    f"rename is [{there}, {here}], but both must have as many *: what stands for those of the first "
                    "takes the place of those of the second"
                )
        return self

    def describe_changes(self) -> str | None:
        """The first key that has not its default, with its value; None where all have theirs."""
        default = InitialisationConfig()
        changed = [name for name in type(self).model_fields if getattr(self, name) != getattr(default, name)]
        return f"initialisation.{changed[0]} is {_write(getattr(self, changed[0]))}" if changed else None


def _write(value: object) -> str:
    """A value as in YAML."""
    return f"[{', '.join(map(_write, value))}]" if isinstance(value, tuple) else str(value)
