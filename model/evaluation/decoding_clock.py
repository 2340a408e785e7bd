"""The real-time factor of decoding: the seconds that it takes for each second of audio.

Counted is what turns features into hypotheses: encoder, attention memory and beam search, CTC's part and fused language
models included. Computing and loading features, copying them to a device, and what a score needs beside hypotheses
(likelihoods, greedy CTC, edits) are not, nor is a batch that did not fit in memory: its halves are. Utterances are
decoded in batches, so the factor is about throughput, not about how long one speaker waits.

It depends on the machine, its load, and the size of batches: it is of use to compare trials that ran alike, and no two
measurements are equal.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from model.runtime.distributed import DistributedContext


@dataclass
class DecodingClock:
    """Adds up this rank's seconds of decoding, and those of the audio that was decoded."""

    seconds: float = 0.0
    audio_seconds: float = 0.0

    @contextlib.contextmanager
    def measure(self, audio_seconds: float, device: torch.device) -> Iterator[None]:
        """Count the block's time as decoding of so much audio; nothing where it raises."""
        _finish_work(device)
        began = time.perf_counter()
        yield
        _finish_work(device)
        self.seconds += time.perf_counter() - began
        self.audio_seconds += audio_seconds

    def find_real_time_factor(self, context: DistributedContext) -> float:
        """Seconds of decoding by the seconds of audio, both summed over all ranks; the same on all of them."""
        seconds, audio_seconds = context.sum_over_ranks([self.seconds, self.audio_seconds])
        return seconds / audio_seconds


def _finish_work(device: torch.device) -> None:
    """Wait for what a GPU was given to do: the host goes on without it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
