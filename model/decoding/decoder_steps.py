"""How a search has its decoder take steps: operator by operator, or on a GPU as CUDA graphs, captured once a shape.

A step of a small decoder is a hundred short kernels, which a GPU runs faster than the host starts them; a graph starts
them at once. Graphs are kept while `keep_graphs` lasts, since capturing one takes as long as some steps.
Shapes: B utterances, K hypotheses of each, V vocabulary.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

import torch
from torch import Tensor

from model.decoding.static_step import Shape, StaticStep, StaticSteps, StepState
from model.network.decoder import CrossAttentionMemory, Decoder
from model.runtime.memory import first_sentence

MOST_BYTES = 2**30  # of all graphs that are kept
TOLERANCE = 1e-3  # of a replayed step's logits: the same sums, perhaps by other kernels


class DecoderSteps(Protocol):
    """The decoder's side of one search."""

    def step(self, tokens: Tensor) -> Tensor:
        """One more token of each hypothesis: ids (B, K) -> logits (B, K, V), which the next step may overwrite."""

    def select(self, rows: Tensor, utterances: Tensor | None) -> None:
        """Hypothesis n continues what was hypothesis `rows[n]`, of its own utterance; with `utterances` only these
        are left of the batch."""


class PlainSteps:
    """Operator by operator, for any decoder on any device."""

    def __init__(self, decoder: Decoder, memory: CrossAttentionMemory, beam: int) -> None:
        self._decoder, self._memory, self._beam = decoder, memory, beam
        self._caches = decoder.new_caches()

    def step(self, tokens: Tensor) -> Tensor:
        return self._decoder.step(tokens, self._memory, self._caches)

    def select(self, rows: Tensor, utterances: Tensor | None) -> None:
        if utterances is not None:
            self._memory = self._memory.select(utterances)
        if self._beam > 1 or utterances is not None:  # else each single hypothesis continues itself
            for cache in self._caches:
                cache.select(rows)


class CapturedStep(StaticStep):
    """A static step that is captured when it is made, and replayed from then on."""

    def __init__(self, decoder: Decoder, shape: Shape) -> None:
        super().__init__(decoder, shape)
        self._graph = torch.cuda.CUDAGraph()
        current, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):  # libraries allocate and choose kernels in the first steps
            for _ in range(2):
                super().run()
        current.wait_stream(side)
        # Other threads, which read batches into pinned memory, may go on.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._logits = super().run()

    def run(self) -> Tensor:
        self._graph.replay()
        return self._logits


class Graphs:
    """The captured steps of one decoder, the last used ones; none once a capture has failed."""

    def __init__(self, capture: type[StaticStep] = CapturedStep) -> None:
        self._capture = capture
        self._steps: dict[Shape, StaticStep] = {}  # the one that was used last is last
        self._of: tuple[Decoder, Tensor | None] | None = None
        self.has_failed = False

    def can_serve(self, decoder: Decoder, memory: CrossAttentionMemory) -> bool:
        """Whether the steps of such a search may be captured: of the project's own decoder, in fp32, on a GPU."""
        if type(decoder) is not Decoder or decoder.training or self.has_failed or not memory.bias.is_cuda:
            return False
        return memory.bias.dtype == torch.float32 and not torch.is_autocast_enabled("cuda")

    def open(self, decoder: Decoder, memory: CrossAttentionMemory, beam: int) -> DecoderSteps:
        """The steps of a search."""
        if self._of is None or self._of[0] is not decoder or self._of[1] is not decoder.mixing:
            self._steps, self._of = {}, (decoder, decoder.mixing)
        return StaticSteps(functools.partial(self.get, decoder), memory, beam)

    def get(self, decoder: Decoder, shape: Shape) -> StaticStep:
        """A step of the shape, captured where it can be."""
        step = self._steps.pop(shape, None)
        if step is None:
            bytes_of = {kept: count_bytes(decoder, kept) for kept in (*self._steps, shape)}
            while self._steps and sum(bytes_of.values()) > MOST_BYTES:
                oldest = next(iter(self._steps))
                del self._steps[oldest], bytes_of[oldest]
            if self.has_failed or bytes_of[shape] > MOST_BYTES:
                return StaticStep(decoder, shape)
            step = self._try(decoder, shape)
        if not self.has_failed:
            self._steps[shape] = step
        return step

    def _try(self, decoder: Decoder, shape: Shape) -> StaticStep:
        try:
            step = self._capture(decoder, shape)
            if agrees(step):
                return step
            reason = "it computed other logits"
        except Exception as error:  # of the driver, a library or torch: then steps are taken without it
            reason = first_sentence(error)
        self.has_failed, self._steps = True, {}
        warn_of_capture(reason)
        return StaticStep(decoder, shape)


@functools.cache  # once for a reason: each scoring tries again
def warn_of_capture(reason: str) -> None:
    """Warn that a capture failed."""
    logging.getLogger(__name__).warning("decoding goes on without CUDA graphs: a capture failed (%s)", reason)


def count_bytes(decoder: Decoder, shape: Shape) -> int:
    """Bytes of what a graph keeps: all keys and values of its step, and its logits."""
    vocabulary, width = decoder.final.weight.shape
    keys_values = 2 * len(decoder.layers) * (shape.entries + shape.frames) * width
    return shape.utterances * (keys_values + shape.beam * vocabulary) * decoder.final.weight.element_size()


def agrees(step: StaticStep) -> bool:
    """Whether two steps of it, with hypotheses that change places in between, are those of the same step uncaptured."""
    B, K, _, _ = step.shape
    device, logits = step.bias.device, []
    draw = torch.Generator(device).manual_seed(0)
    pairs = [
        tuple(torch.randn(x.shape, generator=draw, device=device) for x in pair) for pair in step.memory.keys_values
    ]
    memory = CrossAttentionMemory([(keys, values) for keys, values in pairs], torch.zeros_like(step.memory.bias))
    nothing = [cache.keys[:, :, :0] for cache in step.caches]
    for run in (step.run, functools.partial(StaticStep.run, step)):
        step.load(StepState(nothing, nothing, torch.zeros(B, K, 0, device=device), 0), memory)
        for number in range(2):
            step.tokens.copy_(
                (torch.arange(B * K, device=device).view(B, K) + number) % step.decoder.final.out_features
            )
            logits.append(run().clone())
            step.rows.copy_(torch.arange(B * K, device=device).view(B, K).flip(1).flatten())
    return torch.allclose(torch.cat(logits[:2]), torch.cat(logits[2:]), rtol=TOLERANCE, atol=TOLERANCE)


_kept: ContextVar[Graphs | None] = ContextVar("graphs", default=None)


@contextlib.contextmanager
def keep_graphs() -> Iterator[None]:
    """Let the searches in this block capture the decoder's steps, on a GPU; its weights may not be replaced there."""
    token = _kept.set(_kept.get() or Graphs())
    try:
        yield
    finally:
        _kept.reset(token)


def open_steps(decoder: Decoder, memory: CrossAttentionMemory, beam: int) -> DecoderSteps:
    """The steps of a search over the utterances of `memory`, by the fastest way that there is here."""
    graphs = _kept.get()
    if graphs is not None and graphs.can_serve(decoder, memory):
        return graphs.open(decoder, memory, beam)
    return PlainSteps(decoder, memory, beam)
