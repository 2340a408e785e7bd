"""How a study runs its trials: when they are stopped early, what follows when they fail, and on which workers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from model.strict import Strict

Count = Annotated[int, Field(ge=1)]
EpochMetric = Literal[
    "dev/wer",
    "dev/macro_wer",
    "dev/in_domain/wer",
    "dev/out_of_domain/wer",
    "dev/ctc_wer",
    "dev/cer",
    "dev/perplexity",
    "dev/ilm_perplexity",
    "train/loss",
    "train/loss_ctc",
    "train/loss_attention",
]


class EarlyStoppingSettings(Strict):
    """When a trial that is behind the others is stopped before its last epoch."""

    rule: Literal["asha", "asha-promote", "median", "evidence", "none"] = Field(
        "evidence",
        description="evidence prunes only at an epoch, and by a metric, that is shown to rank trials as their ends do; "
        "asha prunes a trial that is behind its rung; asha-promote pauses every trial at a rung and continues the "
        "best; median prunes a trial that is worse than the median of the others' running means",
    )
    metric: EpochMetric | None = Field(
        None, description="what asha, asha-promote and median compare trials by; null = the objective's metric"
    )
    grace_epochs: Count = Field(
        3, description="of asha, asha-promote and median, the first rung: no trial is stopped before this epoch"
    )
    reduction: Annotated[int, Field(ge=2)] = Field(
        3, description="of asha and asha-promote: one trial in this many continues beyond a rung"
    )
    complete_first: Annotated[int, Field(ge=5)] = Field(
        8, description="of evidence: so many trials, baselines included, run to their end first"
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> EarlyStoppingSettings:
        fields = type(self).model_fields
        for name in ("metric", "grace_epochs", "reduction") if self.rule == "evidence" else ():
            if (value := getattr(self, name)) != fields[name].default:
                raise ValueError(
                    f"{name} is {value}, but the rule evidence finds metric and epoch itself; leave it out, or set "
                    "rule to asha, asha-promote or median"
                )
        return self


class FailureSettings(Strict):
    """What happens when trials fail."""

    retries: Annotated[int, Field(ge=0)] = Field(
        5,
        description="times that a trial is resumed after it lost its workers or their machine, without having got "
        "any further in between",
    )
    same_error_stops: Count = Field(
        3, description="trials that fail in a row with the same error before the study stops"
    )
    stall_seconds: float | None = Field(
        1200.0,
        gt=0,
        description="how long a trial may be without a sign of progress, which is a step taken or a batch of "
        "utterances scored; where it has had longer pauses, three times its longest. Then its workers are ended, where "
        "they hung is kept in its folder, and it is resumed as retries allows. A preparation, a plan or a decoding "
        "that hangs so long ends its command. null = no limit",
    )
    stall_epochs: float | None = Field(
        3.0,
        gt=0,
        description="a trial is not ended before it was without a sign of progress for so many times its usual epoch, "
        "which is the median of its last nine since its workers began with it; stall_seconds is the least. null = "
        "stall_seconds alone",
    )


class WorkerSettings(Strict):
    """The DDP workers of a trial, and the resources of each of them."""

    count: Count = Field(1, description="workers of a trial")
    cpus: float = Field(1.0, gt=0, description="CPUs of a worker")
    gpus: float = Field(0.0, ge=0, description="GPUs of a worker; a fraction of one only where count is 1")
    concurrent_trials: Count | None = Field(
        None,
        description="the most trials at the same time; null = as many as fit. They follow the cluster: machines that "
        "join are used, and what others use is left to them",
    )
    wait_seconds: float | None = Field(
        None,
        gt=0,
        description="how long a study on a cluster waits for machines while not a single trial has room, from its "
        "start on; then it stops, and can be continued. null = such a study is refused before its start; later, "
        "machines that are gone are waited for 600 s, and those that others use without a limit",
    )
    start_seconds: float = Field(
        600.0, gt=0, description="how long the workers of a trial may take to start, once there is room for them"
    )

    @model_validator(mode="after")
    def _check_gpus(self) -> WorkerSettings:
        if self.gpus.is_integer():
            return self
        if self.count > 1:
            raise ValueError(
                f"gpus is {self.gpus:g} with count {self.count}, but workers that share a GPU cannot form a group "
                "(NCCL refuses two of a group on one GPU); set gpus to 1, or count to 1"
            )
        if self.gpus > 1:
            raise ValueError(f"gpus is {self.gpus:g}, but must be a fraction below 1 or a whole number, as Ray has it")
        return self
