"""What is trained, AdamW, its learning rate as a pure function of the training's progress, and an optimiser step."""

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
    """Freeze the parts of a recipe's `training.freeze`; call it before the optimiser and DDP are made."""
    for name, parameter in model.named_parameters():
        if find_part(name) in parts:
            parameter.requires_grad_(False)


def find_part(parameter: str) -> str:
    """The part that the parameter of this name belongs to: encoder, decoder, classifiers or ctc."""
    return "classifiers" if parameter.startswith(("decoder.auxiliary.", "decoder.final.")) else parameter.split(".")[0]


def make_optimiser(model: nn.Module, settings: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW on all that is trained, with weight decay on matrices only: in biases and norms it regularises nothing."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [parameter for parameter in trained if parameter.dim() <= 1], "weight_decay": 0.0},
    ]
    # One fused kernel: parameter by parameter, AdamW takes a fifth of a small model's step.
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def learning_rate(settings: OptimiserConfig, step: int, progress: float) -> float:
    """The rate of optimiser step `step` (from 0), when a share `progress` (0 to 1) of the training is done.

    Decay follows progress, not steps: the number of steps in an epoch is not known before the epoch is planned.
    """
    warm_up = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    decay = {"linear": 1.0 - progress, "cosine": 0.5 + 0.5 * math.cos(math.pi * progress), "none": 1.0}
    return settings.learning_rate * min(warm_up, decay[settings.decay])


@dataclass(frozen=True)
class StepResult:
    """The losses of a step's parts, and its summed loss and gradient norm (2,), which may still be on the way to the
    host; on a GPU `copied` is recorded when they are there."""

    losses: list[Losses]
    loss_and_norm: Tensor
    copied: torch.cuda.Event | None

    def check(self, place: str = "") -> None:
        """Raise a NonFiniteLossError, with `place` in it, if the loss or the norm was not finite.

        No step was taken then. On a GPU this waits for the step, so check a step when the next one is under way.
        """
        if self.copied is not None:
            self.copied.synchronize()
        loss, norm = self.loss_and_norm.tolist()
        if not math.isfinite(loss) or not math.isfinite(norm):
            figures = f"loss {loss:g}, gradient norm {norm:g}"
            raise NonFiniteLossError(f"{figures}{place}: training cannot go on from here")


def accumulate_gradients(model: nn.Module, part: Batch, precision: str, scale: float = 1.0) -> Losses:
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
) -> StepResult:
    """An optimiser step over this rank's parts of a global batch.

    Gradients are summed over parts and ranks, and the loss of each part is divided by the counts of the global batch,
    so the step is that of the whole batch. It is not taken where the loss or the gradient norm is not finite: the
    device decides that, nothing here waits for it, and the result's `check` raises it.
    """
    world_size = torch.distributed.get_world_size() if isinstance(model, DistributedDataParallel) else 1
    losses: list[Losses] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        unsynced = model.no_sync() if isinstance(model, DistributedDataParallel) and not last else None
        with unsynced or contextlib.nullcontext():
            # DDP takes the mean over ranks where the sum is meant.
            losses.append(accumulate_gradients(model, part, precision, world_size))
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    total = torch.stack([part_losses.total.detach() for part_losses in losses]).sum()
    loss_and_norm = torch.stack((total, norm))
    optimiser.found_inf = (~loss_and_norm.isfinite().all()).float()  # type: ignore[attr-defined]  # fused AdamW reads it
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    copied = torch.cuda.Event() if loss_and_norm.is_cuda else None
    loss_and_norm = loss_and_norm.to("cpu", non_blocking=True)
    if copied is not None:
        copied.record()
    return StepResult(losses, loss_and_norm, copied)
