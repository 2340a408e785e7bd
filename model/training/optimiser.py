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
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decayed = [parameter for name, parameter in trained.items() if is_decayed(name, parameter)]
    others = [parameter for name, parameter in trained.items() if not is_decayed(name, parameter)]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    # One fused kernel: parameter by parameter, AdamW takes a fifth of a small model's step.
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices, but not to the attention's u and v, biases of shape (H, E)."""
    return parameter.dim() > 1 and not name.endswith(("content_bias", "position_bias"))


def learning_rate(settings: OptimiserConfig, step: int, progress: float) -> float:
    """The rate of optimiser step `step` (from 0), when a share `progress` (0 to 1) of the training is done.

    With `warmup`, the rate reaches `learning_rate` when that share is done, and decays over the rest. With
    `warmup_steps`, decay starts at once and the lower of both counts. Decay follows progress, not steps: the number of
    steps in an epoch is not known before the epoch is planned.
    """
    if settings.warmup_steps is not None:
        warm_up = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        return settings.learning_rate * min(warm_up, _decay(settings.decay, progress))
    if progress < settings.warmup:
        return settings.learning_rate * progress / settings.warmup
    return settings.learning_rate * _decay(settings.decay, (progress - settings.warmup) / (1.0 - settings.warmup))


def _decay(kind: str, progress: float) -> float:
    """The share of the rate that is left."""
    return {"linear": 1.0 - progress, "cosine": 0.5 + 0.5 * math.cos(math.pi * progress), "none": 1.0}[kind]


@dataclass(frozen=True)
class StepResult:
    """The losses of a step's parts, whether the step was taken (), the gradient's norm (), and for the host the loss of
    the global batch and the norm (2,). On a GPU `copied` is recorded when these two have arrived.

    All but `losses` is equal on all ranks.
    """

    losses: list[Losses]
    taken: Tensor
    norm: Tensor
    loss_and_norm: Tensor
    copied: torch.cuda.Event | None

    def find_fault(self) -> str | None:
        """The figures of a step that was not taken, because the loss or the norm was not finite.

        On a GPU this waits for the step, so ask when the next one is under way.
        """
        if self.copied is not None:
            self.copied.synchronize()
        loss, norm = self.loss_and_norm.tolist()
        if math.isfinite(loss) and math.isfinite(norm):
            return None
        return f"loss {loss:g}, gradient norm {norm:g}"


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
    so the step is that of the whole batch. It is not taken, on any rank, where the loss or the gradient norm is not
    finite: the device decides that, and nothing here waits for it.
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
    if world_size > 1:  # one rank's loss may be infinite and all gradients finite; all ranks have to skip it then
        torch.distributed.all_reduce(total)
    loss_and_norm = torch.stack((total, norm))
    taken = loss_and_norm.isfinite().all()
    optimiser.found_inf = (~taken).float()  # type: ignore[attr-defined]  # fused AdamW reads it
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    copied = torch.cuda.Event() if loss_and_norm.is_cuda else None
    loss_and_norm = loss_and_norm.to("cpu", non_blocking=True)
    if copied is not None:
        copied.record()
    return StepResult(losses, taken, norm, loss_and_norm, copied)
