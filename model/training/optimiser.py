"""What is trained, AdamW with the rates of its groups of parameters, and an optimiser step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.data.batches import Batch
from model.errors import UserError
from model.network.kernels.precision import product_precision
from model.network.losses import Losses
from model.network.recogniser import Recogniser
from model.recipe.training import OptimiserConfig, RatesConfig
from model.runtime.memory import is_memory_failure
from model.strict import unknown_name


def freeze(model: Recogniser, parts: Iterable[str]) -> None:
    """Freeze the parts of a recipe's `training.freeze`; call it before the optimiser and DDP are made."""
    for name, parameter in model.named_parameters():
        if find_part(name) in parts:
            parameter.requires_grad_(False)


def find_part(parameter: str) -> str:
    """The part that the parameter of this name belongs to: encoder, decoder, classifiers or ctc."""
    return "classifiers" if parameter.startswith(("decoder.auxiliary.", "decoder.final.")) else parameter.split(".")[0]


def make_optimiser(model: nn.Module, settings: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW on all that is trained, with weight decay on matrices only: in biases and norms it regularises nothing.

    Parameters of one group have the same weight decay and the same `factor` of the learning rate.
    """
    factors = find_rate_factors([name for name, _ in model.named_parameters()], settings.rates)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((factors[name], is_decayed(name, parameter)), []).append(parameter)
    options = [
        {"params": groups[factor, decayed], "weight_decay": settings.weight_decay if decayed else 0.0, "factor": factor}
        for factor, decayed in sorted(groups, reverse=True)
    ]
    # One fused kernel: parameter by parameter, AdamW takes a fifth of a small model's step.
    return torch.optim.AdamW(options, lr=settings.learning_rate, betas=settings.betas, fused=True)


def find_rate_factors(names: Sequence[str], rates: RatesConfig) -> dict[str, float]:
    """The factor of the learning rate of each parameter: of the first pattern that its name matches, or of its part.

    Raises a UserError where a pattern or a part decides for no parameter, frozen ones included.
    """
    parts = {name: find_part(name) for name in names}
    for part, factor in rates.parts().items():
        if factor != 1.0 and part not in parts.values():
            raise UserError(
                f"optimiser.rates.{part} is {factor:g}, but the model has no parameters of that part; "
                "use optimiser.rates.patterns"
            )
    factors = {name: rates.parts().get(part, 1.0) for name, part in parts.items()}
    left = list(names)
    for pattern, factor in rates.patterns:
        matched = [name for name in left if fnmatchcase(name, pattern)]
        if not matched:
            raise UserError(_describe_unmatched(pattern, names))
        factors |= dict.fromkeys(matched, factor)
        left = [name for name in left if name not in matched]
    return factors


def _describe_unmatched(pattern: str, names: Sequence[str]) -> str:
    place = f"optimiser.rates.patterns has '{pattern}'"
    if any(fnmatchcase(name, pattern) for name in names):
        return f"{place}, but patterns before it match all of its parameters, and the first one counts; put it earlier"
    return f"{place}, which no parameter of the model matches; {unknown_name(pattern, names)}"


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices, but not to the attention's u and v, biases of shape (H, E)."""
    return parameter.dim() > 1 and not name.endswith(("content_bias", "position_bias"))


@dataclass(frozen=True)
class StepResult:
    """The losses of a step's parts, whether the step was taken (), the gradient's norm (), and for the host the loss of
    the global batch and the norm (2,), and the number of ranks that were asked to stop (). On a GPU `copied` is
    recorded when these have arrived.

    All but `losses` is equal on all ranks.
    """

    losses: list[Losses]
    taken: Tensor
    norm: Tensor
    loss_and_norm: Tensor
    stop: Tensor
    copied: torch.cuda.Event | None

    def asks_to_stop(self) -> bool:
        """Whether a rank was asked to stop when it took this step; on a GPU this waits as `find_fault` does."""
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.stop)

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
    device = part.features.device
    with product_precision(device, precision):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            losses: Losses = model(part.features, part.lengths, part.labels, part.counts)
        (losses.total * scale).backward()
    return losses


class GradientMemoryError(MemoryError):
    """An allocation failed while gradients were computed: the weights and the optimiser's state are as they were."""


def train_step(
    model: nn.Module,
    parts: Sequence[Batch],
    optimiser: torch.optim.Optimizer,
    rate: float,
    clip_norm: float,
    precision: str,
    stop: bool = False,
) -> StepResult:
    """An optimiser step over this rank's parts of a global batch; `stop`: this rank was asked to stop training.

    Gradients are summed over parts and ranks, and the loss of each part is divided by the counts of the global batch,
    so the step is that of the whole batch. Raises a GradientMemoryError where the gradients do not fit in memory.
    """
    try:
        losses = accumulate_parts(model, parts, precision)
    except Exception as error:
        if is_memory_failure(error):
            raise GradientMemoryError(str(error)) from None
        raise
    return take_step(model, losses, optimiser, rate, clip_norm, stop)


def accumulate_parts(model: nn.Module, parts: Sequence[Batch], precision: str) -> list[Losses]:
    """Give the parameters the gradients of a global batch, of which these are this rank's parts; the parts' losses."""
    world_size = torch.distributed.get_world_size() if isinstance(model, DistributedDataParallel) else 1
    losses: list[Losses] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        unsynced = model.no_sync() if isinstance(model, DistributedDataParallel) and not last else None
        with unsynced or contextlib.nullcontext():
            # DDP takes the mean over ranks where the sum is meant.
            losses.append(accumulate_gradients(model, part, precision, world_size))
    return losses


def take_step(
    model: nn.Module,
    losses: list[Losses],
    optimiser: torch.optim.Optimizer,
    rate: float,
    clip_norm: float,
    stop: bool = False,
) -> StepResult:
    """The step for the gradients that the parameters have, which are then dropped; `losses` are those of its parts.

    It is not taken, on any rank, where the loss or the gradient norm is not finite: the device decides that, and
    nothing here waits for it.
    """
    world_size = torch.distributed.get_world_size() if isinstance(model, DistributedDataParallel) else 1
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    total = torch.stack([part_losses.total.detach() for part_losses in losses]).sum()
    stops = total.new_full((), float(stop))
    if world_size > 1:  # one rank's loss may be infinite and all gradients finite; all ranks have to skip it then
        both = torch.stack((total, stops))
        torch.distributed.all_reduce(both)
        total, stops = both.unbind()
    figures = torch.stack((total, norm, stops))
    taken = figures[:2].isfinite().all()
    optimiser.found_inf = (~taken).float()  # type: ignore[attr-defined]  # fused AdamW reads it
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    copied = torch.cuda.Event() if figures.is_cuda else None
    figures = figures.to("cpu", non_blocking=True)
    if copied is not None:
        copied.record()
    return StepResult(losses, taken, norm, figures[:2], figures[2], copied)
