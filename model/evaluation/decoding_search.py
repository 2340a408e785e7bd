"""The search for a decoding after training: the encoder's states of the dev sets are computed once, and decoded anew.

Shapes: B utterances, S encoder frames, D width.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.data.batches import make_scoring_batches
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances
from model.decoding.beam_search import beam_search
from model.decoding.length_limit import resolve_tokens_per_second
from model.errors import OutOfMemoryError
from model.evaluation.error_rates import Edits, word_edits
from model.evaluation.scoring import use_mixing
from model.network.recogniser import EncoderOutput, Recogniser
from model.recipe.recipe import DecodingConfig, DecodingSearchConfig
from model.runtime.distributed import DistributedContext
from model.runtime.memory import convert_memory_failures, release_memory

WIDENED = 2  # CTC weights that are tried with larger beams


@dataclass(frozen=True)
class TriedDecoding:
    """A decoding, the word edits of all dev sets pooled, and the seconds that it took."""

    decoding: DecodingConfig
    words: Edits
    seconds: float

    @property
    def wer(self) -> float:
        return 100.0 * self.words.errors / max(self.words.length, 1)


@dataclass(frozen=True)
class EncodedBatch:
    """Utterances of this rank and the encoder's states of them, on the host: states (B, S, D), lengths (B,)."""

    ids: list[str]
    states: Tensor
    lengths: Tensor

    def split(self) -> tuple[EncodedBatch, EncodedBatch]:
        """Its first and its second half."""
        middle = len(self.ids) // 2
        first, second = slice(None, middle), slice(middle, None)
        return tuple(  # type: ignore[return-value]
            EncodedBatch(self.ids[rows], self.states[rows], self.lengths[rows]) for rows in (first, second)
        )


def search_decoding(
    model: Recogniser,
    dev: Utterances,
    start: DecodingConfig,
    settings: DecodingSearchConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
    seconds: float,
) -> list[TriedDecoding]:
    """Decodings of the dev sets, `start` first, in the order in which they were tried; the same on all ranks.

    The search takes about `seconds`, the encoder included: a decoding that would take longer than what is left, as far
    as the ones before it tell, is not tried. `start` always is.
    """
    began = time.monotonic()
    model.eval()
    tried: list[TriedDecoding] = []
    skipped: list[DecodingConfig] = []
    with torch.inference_mode():
        batches = encode_sets(model, dev, start.batch_seconds, context)
        while (decoding := next_decoding(start, settings, tried, skipped)) is not None:
            used = context.max_over_ranks([time.monotonic() - began])[0]
            if tried and used + estimate_seconds(decoding, tried) > seconds:
                skipped.append(decoding)
                continue
            tried.append(_try(model, batches, dev, decoding, tokenizer, context))
    return tried


def best_decoding(tried: Sequence[TriedDecoding]) -> TriedDecoding:
    """The one with the fewest errors; of equals the one with the smaller beam, then the one that was tried first."""
    return min(tried, key=lambda one: (one.words.errors, one.decoding.beam))


def next_decoding(
    start: DecodingConfig,
    settings: DecodingSearchConfig,
    tried: Sequence[TriedDecoding],
    skipped: Sequence[DecodingConfig] = (),
) -> DecodingConfig | None:
    """What is tried after `tried`, without what was `skipped`; None at the end of the search."""
    known = [one.decoding for one in tried] + list(skipped)
    if start not in known:
        return start
    greedy = [start.model_copy(update={"beam": 1, "ctc_weight": weight}) for weight in settings.ctc_weight]
    for decoding in greedy:
        if decoding not in known:
            return decoding
    of_one_beam = sorted((one for one in tried if one.decoding.beam == 1), key=lambda one: one.words.errors)
    for one in of_one_beam[:WIDENED]:
        for beam in sorted(settings.beam):
            wider = one.decoding.model_copy(update={"beam": beam})
            if wider not in known:
                return wider
    best = best_decoding(tried).decoding
    if best.beam > 1:  # greedy search ends with its first eos, whatever the penalty
        # Around the best penalty so far all others have been tried, so this ends.
        for penalty in settings.length_penalty:
            other = best.model_copy(update={"length_penalty": penalty})
            if other not in known:
                return other
    return None


def estimate_seconds(decoding: DecodingConfig, tried: Sequence[TriedDecoding]) -> float:
    """What a decoding takes: as long as the last one of the same beam, or in proportion to the nearest beam's."""
    nearest = min(reversed(tried), key=lambda one: abs(one.decoding.beam - decoding.beam))
    return nearest.seconds * max(1.0, decoding.beam / nearest.decoding.beam)


def encode_sets(
    model: Recogniser, dev: Utterances, batch_seconds: float, context: DistributedContext
) -> list[EncodedBatch]:
    """The encoder's states of this rank's share of the utterances. CTC's are made of them when they are needed: a
    class for each frame takes more room than the states."""
    encoded = []
    for batch in make_scoring_batches(dev, batch_seconds, context.rank, context.world_size):
        on_device = batch.to(context.device)
        states, lengths = model.encoder(on_device.features, on_device.lengths)
        encoded.append(EncodedBatch(batch.ids, states.cpu(), lengths.cpu()))
    return encoded


def _try(
    model: Recogniser,
    batches: Sequence[EncodedBatch],
    dev: Utterances,
    decoding: DecodingConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
) -> TriedDecoding:
    began = time.monotonic()
    sums = [0.0] * 4
    with use_mixing(model, decoding):
        for batch in batches:
            for key, text in _decode(model, batch, decoding, tokenizer, context):
                edits = word_edits(dev.texts[key], text)
                sums = [total + count for total, count in zip(sums, edits, strict=True)]
    words = Edits(*(int(value) for value in context.sum_over_ranks(sums)))
    return TriedDecoding(decoding, words, context.max_over_ranks([time.monotonic() - began])[0])


def _decode(
    model: Recogniser,
    batch: EncodedBatch,
    decoding: DecodingConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
) -> list[tuple[str, str]]:
    """Id and text of each utterance of a batch, which is split where memory does not suffice."""
    bound = resolve_tokens_per_second(decoding.tokens_per_second, model.tokens_per_second)
    try:
        with convert_memory_failures(f"decoding with beam {decoding.beam}", "lower decoding_search.beam"):
            states = batch.states.to(context.device)
            encoded = EncoderOutput(states, batch.lengths, model.ctc(states))
            nbest = beam_search(
                model, encoded, decoding.beam, decoding.ctc_weight, None, decoding.length_penalty, bound
            )
            return [(key, tokenizer.decode(found[0].tokens)) for key, found in zip(batch.ids, nbest, strict=True)]
    except OutOfMemoryError:
        if len(batch.ids) == 1:
            raise
    release_memory()
    return [pair for half in batch.split() for pair in _decode(model, half, decoding, tokenizer, context)]
