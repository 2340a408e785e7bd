"""The part of a recipe that says how the model is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from model.recipe.architecture import Count, Share
from model.strict import Strict


def _refuse_zero(factor: float) -> float:
    if factor <= 0:
        raise ValueError(f"is {factor:g}, but must be above 0; what shall not be trained belongs into training.freeze")
    return factor


Factor = Annotated[float, AfterValidator(_refuse_zero)]


class RatesConfig(Strict):
    """Factors of the learning rate for parts of the model, those of `training.freeze`, and for parameters by name.

    The first pattern that a parameter's name matches counts; where none does, the factor of its part.
    """

    encoder: Factor = Field(1.0, description="above 0")
    decoder: Factor = Field(1.0, description="above 0; of all but its classifiers")
    classifiers: Factor = Field(1.0, description="above 0; of the final and the auxiliary classifiers")
    ctc: Factor = Field(1.0, description="above 0; of the CTC head")
    patterns: tuple[tuple[str, Factor], ...] = Field(
        (),
        description="pairs of a pattern and a factor: `decoder.layers.0.*` is the first decoder layer (* any text, ? "
        "one character). One that no parameter matches is an error",
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> RatesConfig:
        patterns = [pattern for pattern, _ in self.patterns]
        if len(set(patterns)) < len(patterns):
            raise ValueError(f"patterns is {patterns}, but must name each pattern once: the first one counts")
        return self

    def parts(self) -> dict[str, float]:
        """The factor of each part of the model."""
        return {"encoder": self.encoder, "decoder": self.decoder, "classifiers": self.classifiers, "ctc": self.ctc}


class OptimiserConfig(Strict):
    """AdamW, linear warm-up to the learning rate, then decay, to zero at the last step unless it says otherwise.

    Matrices alone are decayed by `weight_decay`: no biases, no norms, no position biases of the attention.
    """

    learning_rate: float = Field(1e-3, gt=0, description="after the warm-up, the highest")
    betas: tuple[Share, Share] = Field((0.9, 0.98), description="of AdamW's moving averages")
    weight_decay: float = Field(1e-6, ge=0, description="of matrices")
    warmup: Share = Field(0.1, description="share of the training in which the rate rises; decay fills the rest")
    warmup_steps: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="optimiser steps in which the rate rises, instead of a share; decay goes on beside it, so the peak "
        "is lower the longer that takes (train/peak_learning_rate)",
    )
    decay: Literal["linear", "cosine", "none", "noam", "plateau"] = Field(
        "linear",
        description="of the rate: linear and cosine fall to `floor` at the last step; noam falls with the inverse "
        "square root of the steps since `warmup_steps`, where it has its peak; plateau is lowered when dev/wer does "
        "not fall",
    )
    floor: Share = Field(0.0, description="share of the learning rate that decay leaves at least")
    plateau_factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5, description="what plateau multiplies the rate by"
    )
    plateau_patience: Count = Field(
        3, description="epochs in a row after the warm-up without a lower dev/wer, after which plateau lowers the rate"
    )
    plateau_threshold: Share = Field(0.0, description="share by which dev/wer has to fall below the lowest to count")
    rates: RatesConfig = RatesConfig()
    clip_norm: float = Field(1.0, gt=0, description="longest gradient; longer ones are scaled down to it")
    accumulate: Count = Field(1, description="gradient accumulation: parts that each worker's batch is split into")

    @model_validator(mode="after")
    def _check_consistency(self) -> OptimiserConfig:
        if self.decay == "noam" and not self.warmup_steps:
            raise ValueError(
                f"optimiser.decay is noam, which follows the steps of the warm-up, but optimiser.warmup_steps is "
                f"{'null' if self.warmup_steps is None else 0}; give their number, or choose another decay"
            )
        return self


class TrainingConfig(Strict):
    """How long, on how much of the data, in what precision, from which seed, and which weights are kept in the end."""

    epochs: Count = Field(50, description="length of the training")
    epoch_steps: Count | None = Field(
        None,
        description="optimiser steps in an epoch, which goes on in the data where the last one ended; null = one pass "
        "over the data. Validation, checkpoints and early stopping follow epochs",
    )
    epoch_share: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="the same as a share of the steps that a pass takes: 0.1 validates ten times in a pass"
    )
    data_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="share of the training utterances that is used, the same ones in all trials of a study"
    )
    choose: Literal["best", "last", "average_best", "average_last", "ema"] = Field(
        "best",
        description="the weights that are kept: of the epoch with the lowest dev/wer, of the last one, their mean over "
        "the `average` best or last epochs, or the moving average over all steps",
    )
    average: Count = Field(5, description="epochs in an average")
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.999, description="of the moving average: what a step leaves of it"
    )
    seed: int = Field(0, description="initial weights, dropout and augmentation")
    precision: Literal["fp32", "tf32", "bf16"] = Field(
        "fp32",
        description="precision of matrix products in training; weights and losses are always fp32. tf32 "
        "computes with 10 bits of mantissa on GPUs, and as fp32 elsewhere",
    )
    skips_in_a_row: Count = Field(
        5, description="batches in a row with a loss or gradient that is not finite, and hence skipped, end training"
    )
    skips_share: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.05, description="so does a larger share of an epoch's batches; one is allowed, unless this is 0"
    )
    compile: bool = Field(
        False, description="torch.compile the layers, for GPUs; needs a C compiler, and the first steps take minutes"
    )
    freeze: tuple[Literal["encoder", "decoder", "classifiers", "ctc"], ...] = Field(
        (), description="parts that are not trained; `decoder` is all but its classifiers, `ctc` the CTC head"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> TrainingConfig:
        if self.epoch_steps is not None and self.epoch_share is not None:
            raise ValueError(
                f"epoch_steps is {self.epoch_steps} and epoch_share is {self.epoch_share:g}, but an epoch has one "
                "length; set one of them to null"
            )
        if len(set(self.freeze)) < len(self.freeze):
            raise ValueError(f"freeze is {list(self.freeze)}, but must name each part once")
        if len(self.freeze) == 4:
            raise ValueError("freeze names every part, which leaves nothing to train; take one out")
        return self
