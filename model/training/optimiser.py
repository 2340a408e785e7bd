"""What is trained, AdamW, its learning rate as a pure function of where the training is, and one optimiser step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.data.batches import Batch
from model.errors import NonFiniteLossError
from model.network.losses import Losses
from model.network.recogniser import Recogniser
from model.recipe.recipe import OptimiserConfig


def freeze(model: Recogniser, parts: Iterable[str]) -> None:
    """Take the parts of a recipe's `training.freeze` out of training; call it before the optimiser and DDP are made."""
    for name, parameter in model.named_parameters():
        if part_of(name) in parts:
            parameter.requires_grad_(False)


def part_of(parameter: str) -> str:
    """The part that a parameter belongs to by its name: encoder, decoder, classifiers or ctc."""
    return "classifiers" if parameter.startswith(("decoder.auxiliary.", "decoder.final.")) else parameter.split(".")[0]


def make_optimiser(model: nn.Module, settings: OptimiserConfig) -> torch.optim.AdamW:
    """Weight decay on matrices only: a decayed bias or norm has nothing to regularise."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [one for one in trained if one.dim() <= 1], "weight_decay": 0.0},
    ]
    # One fused kernel: parameter by parameter, AdamW takes a fifth of a small model's step.
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def learning_rate(settings: OptimiserConfig, step: int, progress: float) -> float:
    """The rate of optimiser step `step` (from 0), when a share `progress` (0 to 1) of the training is done.

    Decay follows progress, not steps: the number of steps an epoch need not be known before the epoch is.
    """
    warm = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    decays = {"linear": 1.0 - progress, "cosine": 0.5 + 0.5 * math.cos(math.pi * progress), "none": 1.0}
    return settings.learning_rate * min(warm, decays[settings.decay])


@dataclass(frozen=True)
class Step:
    """What an optimiser step was: the losses of its parts, and on the way to the host (loss, gradient norm)."""

    losses: list[Losses]
    figures: Tensor
    there: torch.cuda.Event | None

    def check(self, where: str = "") -> None:
        """A NonFiniteLossError if the loss or the gradient norm was not finite: then the step was not taken.

        `where` is said with it. On a GPU this waits for the step, so check one when the next is under way.
        """
        if self.there is not None:
            self.there.synchronize()
        loss, norm = self.figures.tolist()
        if not math.isfinite(loss) or not math.isfinite(norm):
            figures = f"loss {loss:g}, gradient norm {norm:g}"
            raise NonFiniteLossError(f"{figures}{where}: training cannot go on from here")


def add_gradients(model: nn.Module, part: Batch, precision: str, scale: float = 1.0) -> Losses:
    """Add the gradients of a part's total loss, times `scale`, to those that the parameters have."""
    with torch.autocast(part.features.device.type, torch.bfloat16, enabled=precision == "bf16"):
        losses: Losses = model(part.features, part.lengths, part.labels, part.counts)
    (losses.total * scale).backward()
    return losses


def train_step(
    model: nn.Module,
    parts: Sequence[Batch],
    optimiser: torch.optim.Optimizer,
    rate: float,
    clip_norm: float,
    precision: str,
) -> Step:
    """One optimiser step over this worker's parts of a global batch.

    Gradients are summed over parts and workers, and each part is divided by the counts of the global batch, so the
    step is that of the whole batch. It is not taken where the loss or the gradient norm is not finite, which `check`
    tells: the device decides, and nothing here waits for it.
    """
    workers = torch.distributed.get_world_size() if isinstance(model, DistributedDataParallel) else 1
    done: list[Losses] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        unsynced = model.no_sync() if isinstance(model, DistributedDataParallel) and not last else None
        with unsynced or contextlib.nullcontext():
            # DDP takes the mean over workers where the sum is meant.
            done.append(add_gradients(model, part, precision, workers))
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    figures = torch.stack((torch.stack([one.total.detach() for one in done]).sum(), norm))
    optimiser.found_inf = (~figures.isfinite().all()).float()  # type: ignore[attr-defined]  # fused AdamW reads it
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    there = torch.cuda.Event() if figures.is_cuda else None
    figures = figures.to("cpu", non_blocking=True)
    if there is not None:
        there.record()
    return Step(done, figures, there)
