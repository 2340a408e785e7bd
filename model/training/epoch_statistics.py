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
from model.weights.checkpoint_files import EpochPart

_LARGEST = 3  # of a rank's figures the first are times and memory, of which the largest counts; the others are summed
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
    peak: float = 0.0  # bytes of memory, before training was stopped within the epoch
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

    def collect(self) -> list[list[float]]:
        """What each rank has so far, for `restore`; the same on all ranks. On a GPU this waits for the last step."""
        seconds, peak = time.monotonic() - self.began, self._find_peak()
        counts = [self.frames, self.tokens]
        return self.context.gather_over_ranks([seconds, self.waited, peak, *counts, *self.sums.tolist()])

    def restore(self, part: EpochPart) -> None:
        """Go on from what the ranks had, of which there may have been another number: then rank 0 has their sums."""
        known, rank = part.figures, self.context.rank
        if len(known) == self.context.world_size:
            own = known[rank]
        else:
            columns = list(zip(*known, strict=True))
            sums = [sum(column) if rank == 0 else 0.0 for column in columns[_LARGEST:]]
            own = [max(column) for column in columns[:_LARGEST]] + sums
        seconds, self.waited, self.peak, frames, tokens, *sums = own
        self.began = time.monotonic() - seconds
        self.frames, self.tokens, self.steps = int(frames), int(tokens), part.steps
        self.rate, self.peak_rate = part.rate, part.peak_rate
        self.sums += torch.tensor(sums, dtype=torch.float64, device=self.context.device)

    def _find_peak(self) -> float:
        """Bytes of memory that this rank has had at most."""
        return max(self.peak, float(peak_memory_bytes(self.context.device)))

    def reduce(self, steps: int) -> dict[str, float]:
        """The figures of the epoch, means over the `steps` that were taken; the same on all ranks."""
        seconds = self.context.max_over_ranks([time.monotonic() - self.began])[0]
        *sums, frames, tokens = self.context.sum_over_ranks([*self.sums.tolist(), self.frames, self.tokens])
        *losses, norm = (value / max(steps, 1) for value in sums)
        layers = [f"train/loss_layer_{layer}" for layer in self.model.decoder.placement]
        figures = dict(zip((*LOSSES, *layers, "train/loss_final"), losses, strict=True))
        if not self.model.recipe.loss.inter_ctc.layers:
            del figures["train/loss_inter_ctc"]
        peak = self.context.max_over_ranks([self._find_peak()])[0]
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
