"""What training reports of an epoch: losses, gradient norm, learning rate, speed and memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.network.losses import IGNORED, Losses
from model.network.recogniser import Recogniser
from model.runtime.distributed import DistributedContext
from model.runtime.memory import peak_memory_bytes, reset_peak_memory
from model.training.broken_batch import TrainingStep

LOSSES = ("train/loss", "train/loss_ctc", "train/loss_attention", "train/loss_inter_ctc")


@dataclass
class EpochStatistics:
    """Sums over the steps of an epoch. No step is waited for: what the device computes stays there until `reduce`."""

    model: Recogniser
    context: DistributedContext
    rate: float = 0.0  # of the last step
    peak_rate: float = 0.0
    steps: int = 0
    frames: int = 0  # of this rank, without padding
    tokens: int = 0
    waited: float = 0.0  # seconds, for batches
    sums: Tensor = field(init=False)  # of the loss terms, then of the gradient norm
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        names = len(LOSSES) + len(self.model.decoder.placement) + 1
        self.sums = torch.zeros(names + 1, dtype=torch.float64, device=self.context.device)
        reset_peak_memory(self.context.device)

    @contextlib.contextmanager
    def measure_wait(self) -> Iterator[None]:
        """Count the time of the block as waiting for a batch."""
        began = time.monotonic()
        yield
        self.waited += time.monotonic() - began

    def add(self, step: TrainingStep, rate: float) -> None:
        """Add a step; the loss of one that was not taken does not count."""
        assert step.result is not None
        result = step.result
        losses = torch.stack([_stack_terms(part) for part in result.losses]).detach().double().sum(dim=0)
        # The norm is that of all ranks already, and `reduce` sums over ranks.
        norm = result.norm.double() / self.context.world_size
        self.sums += torch.where(result.taken, torch.cat((losses, norm[None])), 0.0)
        self.rate, self.peak_rate = rate, max(self.peak_rate, rate)
        self.steps += 1
        for part in step.parts:
            scored = part.labels != IGNORED
            self.frames += int(part.lengths[scored.any(dim=1)].sum())
            self.tokens += int(scored.sum())

    def reduce(self, steps: int) -> dict[str, float]:
        """The figures of the epoch, means over the `steps` that were taken; the same on all ranks."""
        seconds = self.context.max_over_ranks([time.monotonic() - self.began])[0]
        *sums, frames, tokens = self.context.sum_over_ranks([*self.sums.tolist(), self.frames, self.tokens])
        *losses, norm = (value / max(steps, 1) for value in sums)
        layers = [f"train/loss_layer_{layer}" for layer in self.model.decoder.placement]
        figures = dict(zip((*LOSSES, *layers, "train/loss_final"), losses, strict=True))
        if not self.model.recipe.loss.inter_ctc.layers:
            del figures["train/loss_inter_ctc"]
        peak = self.context.max_over_ranks([float(peak_memory_bytes(self.context.device))])[0]
        return figures | {
            "train/gradient_norm": norm,
            "train/learning_rate": self.rate,
            "train/frames_per_second": frames / seconds,
            "train/frames_per_step": frames / max(self.steps, 1),
            "train/tokens_per_second": tokens / seconds,
            "train/peak_memory_mib": peak / 2**20,
            "train/seconds": seconds,
            "train/wait_seconds": self.context.max_over_ranks([self.waited])[0],
        }


def _stack_terms(losses: Losses) -> Tensor:
    terms = torch.stack((losses.total, losses.ctc, losses.attention, losses.inter_ctc))
    return torch.cat((terms, losses.per_classifier))
