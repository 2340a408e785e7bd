"""The search for a decoding after training: the encoder's states of the dev sets are computed once, decoded often.

It goes stage by stage: `start`, each CTC weight greedily, `language models` and `mixing` if the settings have any, each
beam, `length penalty`. A stage is done whole or not at all, so that models which were searched as far as the same stage
were searched alike, whatever time each of them had. A model may have nothing to try in a stage: no classifiers to mix,
for example.

Shapes: B utterances, S encoder frames, D width.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.data.batches import make_scoring_batches
from model.data.epoch_plan import Rows
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances
from model.decoding.beam_search import beam_search
from model.decoding.decoder_steps import keep_graphs
from model.decoding.encoding import encode_states, keep_cast_weights
from model.decoding.fusion import make_fusion
from model.decoding.length_limit import resolve_tokens_per_second
from model.errors import OutOfMemoryError
from model.evaluation.error_rates import Edits, sum_edits, word_edits
from model.evaluation.scoring import use_mixing
from model.network.recogniser import Recogniser
from model.recipe.decoding import DecodingConfig, DecodingSearchConfig
from model.runtime.distributed import DistributedContext
from model.runtime.memory import convert_memory_failures, release_memory
from model.runtime.progress import note_progress

# Stages.
START, LANGUAGE_MODELS, MIXING, LENGTH_PENALTY = "start", "language models", "mixing", "length penalty"
WIDENED = 2  # greedy decodings that are tried with larger beams


@dataclass(frozen=True)
class TriedDecoding:
    """A decoding, the stage that tried it, the word edits of each dev set, and the seconds that it took."""

    stage: str
    decoding: DecodingConfig
    sets: dict[str, Edits]
    seconds: float

    @property
    def words(self) -> Edits:
        """Of all dev sets pooled."""
        return sum_edits(self.sets.values())


@dataclass(frozen=True)
class DecodingSearch:
    """What was tried, in that order, and the stages that were done, in theirs."""

    tried: list[TriedDecoding]
    stages: list[str]


@dataclass(frozen=True)
class EncodedBatch:
    """Utterances of this rank and the encoder's states of them, on the host: states (B, S, D), lengths (B,)."""

    rows: Rows
    states: Tensor
    lengths: Tensor

    def split(self) -> tuple[EncodedBatch, EncodedBatch]:
        """Its first and its second half."""
        middle = len(self.rows) // 2
        first, second = slice(None, middle), slice(middle, None)
        return tuple(  # type: ignore[return-value]
            EncodedBatch(self.rows[half], self.states[half], self.lengths[half]) for half in (first, second)
        )


def search_decoding(
    model: Recogniser,
    dev: Utterances,
    start: DecodingConfig,
    settings: DecodingSearchConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
    seconds: float,
) -> DecodingSearch:
    """Decodings of the dev sets, `start` first; the same on all ranks.

    The search takes about `seconds`, the encoder included: it ends before the first stage that would take longer than
    what is left, as far as the decodings before it show. `start` is always tried.
    """
    began = time.monotonic()
    model.eval()
    tried: list[TriedDecoding] = []
    done: list[str] = []
    auxiliary = model.recipe.loss.auxiliary.weights
    with torch.inference_mode(), keep_graphs():
        batches = encode_sets(model, dev, start, context)
        for stage in list_stages(settings):
            decodings = plan_stage(stage, start, settings, tried, auxiliary)
            used = context.max_over_ranks([time.monotonic() - began])[0]
            if tried and used + sum(estimate_seconds(one, tried) for one in decodings) > seconds:
                break
            tried += [_try(stage, model, batches, dev, one, tokenizer, context) for one in decodings]
            done.append(stage)
    return DecodingSearch(tried, done)


def best_decoding(tried: Sequence[TriedDecoding]) -> TriedDecoding:
    """The one with the fewest errors; of equals the one with the smaller beam, then the one that was tried first."""
    return min(tried, key=lambda one: (one.words.errors, one.decoding.beam))


def list_stages(settings: DecodingSearchConfig) -> list[str]:
    """The stages of a search, in their order."""
    # From the middle outwards: a search that ends early has then seen what is likely to be good.
    weights = sorted(settings.ctc_weight, key=lambda weight: (abs(weight - 0.5), -weight))
    beams = [name_beam(beam) for beam in sorted(settings.beam)]
    fusion = [LANGUAGE_MODELS] if settings.lm_weight or settings.ilm_weight else []
    mixing = [MIXING] if settings.mixing else []
    return [START, *map(name_ctc_weight, weights), *fusion, *mixing, *beams, LENGTH_PENALTY]


def name_ctc_weight(weight: float) -> str:
    """The stage that tries a CTC weight greedily."""
    return f"CTC weight {weight:g}"


def name_beam(beam: int) -> str:
    """The stage that tries a beam with the best greedy decodings."""
    return f"beam {beam}"


def plan_stage(
    stage: str,
    start: DecodingConfig,
    settings: DecodingSearchConfig,
    tried: Sequence[TriedDecoding],
    auxiliary: Sequence[float] = (),
) -> list[DecodingConfig]:
    """The decodings that a stage tries after those of the stages before it; none where it has nothing new.

    `auxiliary` are the weights of the model's auxiliary classifiers in the loss.
    """
    if stage == START:
        wanted = [start]
    elif stage == LANGUAGE_MODELS:
        wanted = plan_fusion(_best_greedy(tried), settings)
    elif stage == MIXING:
        best = _best_greedy(tried)
        mixings = [
            (*(share * weight / sum(auxiliary) for weight in auxiliary), 1.0 - share) for share in settings.mixing
        ]
        wanted = [best.model_copy(update={"mixing": mixing}) for mixing in mixings] if auxiliary else []
    elif stage == LENGTH_PENALTY:
        best = best_decoding(tried).decoding
        penalties = settings.length_penalty if best.beam > 1 else ()  # greedy search ends with its first eos anyway
        wanted = [best.model_copy(update={"length_penalty": penalty}) for penalty in penalties]
    else:
        greedy = sorted((one for one in tried if one.decoding.beam == 1), key=lambda one: one.words.errors)
        wanted = [
            start.model_copy(update={"beam": 1, "ctc_weight": weight})
            for weight in settings.ctc_weight
            if name_ctc_weight(weight) == stage
        ]
        wanted += [
            one.decoding.model_copy(update={"beam": beam})
            for beam in settings.beam
            if name_beam(beam) == stage
            for one in greedy[:WIDENED]
        ]
    known = [one.decoding for one in tried]
    return [one for number, one in enumerate(wanted) if one not in known and one not in wanted[:number]]


def plan_fusion(best: DecodingConfig, settings: DecodingSearchConfig) -> list[DecodingConfig]:
    """A decoding with each weight of the language model and each of the internal one, none of both among them."""
    lm_weights = [0.0, *settings.lm_weight] if best.lm is not None else [0.0]
    return [
        best.model_copy(update={"lm_weight": lm_weight, "ilm_weight": ilm_weight})
        for lm_weight in lm_weights
        for ilm_weight in (0.0, *settings.ilm_weight)
    ]


def _best_greedy(tried: Sequence[TriedDecoding]) -> DecodingConfig:
    """The best of the greedy decodings, or of all where none is greedy."""
    return best_decoding([one for one in tried if one.decoding.beam == 1] or tried).decoding


def estimate_seconds(decoding: DecodingConfig, tried: Sequence[TriedDecoding]) -> float:
    """What a decoding takes: as long as the last one of the same beam, or in proportion to the nearest beam's."""
    nearest = min(reversed(tried), key=lambda one: abs(one.decoding.beam - decoding.beam))
    return nearest.seconds * max(1.0, decoding.beam / nearest.decoding.beam)


def encode_sets(
    model: Recogniser, dev: Utterances, decoding: DecodingConfig, context: DistributedContext
) -> list[EncodedBatch]:
    """The encoder's states of this rank's share of the utterances. CTC's are made of them when they are needed: a
    class for each frame takes more room than the states."""
    encoded = []
    with keep_cast_weights(context.device):
        for batch in make_scoring_batches(dev, decoding.batch_seconds, context.rank, context.world_size):
            on_device = batch.to(context.device)
            states, lengths = encode_states(model, on_device.features, on_device.lengths, decoding)
            encoded.append(EncodedBatch(batch.rows, states.cpu(), lengths.cpu()))
            note_progress()
    return encoded


def _try(
    stage: str,
    model: Recogniser,
    batches: Sequence[EncodedBatch],
    dev: Utterances,
    decoding: DecodingConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
) -> TriedDecoding:
    began = time.monotonic()
    sums = {name: [0.0] * len(Edits._fields) for name in dev.set_names}
    with use_mixing(model, decoding):
        for batch in batches:
            for row, text in _decode(model, batch, decoding, tokenizer, context):
                name, edits = dev.set_name(row), word_edits(dev.text(row), text)
                sums[name] = [total + count for total, count in zip(sums[name], edits, strict=True)]
            note_progress()
    sets = {name: Edits(*(int(value) for value in context.sum_over_ranks(counts))) for name, counts in sums.items()}
    return TriedDecoding(stage, decoding, sets, context.max_over_ranks([time.monotonic() - began])[0])


def _decode(
    model: Recogniser,
    batch: EncodedBatch,
    decoding: DecodingConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
) -> list[tuple[int, str]]:
    """Row and text of each utterance of a batch, which is split where memory does not suffice."""
    bound = resolve_tokens_per_second(decoding.tokens_per_second, model.tokens_per_second)
    try:
        with convert_memory_failures(f"decoding with beam {decoding.beam}", "lower decoding_search.beam"):
            states = batch.states.to(context.device)
            encoded = model.add_ctc(states, batch.lengths)
            search = decoding.beam, decoding.ctc_weight, None, decoding.length_penalty, bound
            nbest = beam_search(model, encoded, *search, fusion=make_fusion(model, decoding, tokenizer))
            return [(row, tokenizer.decode(found[0].tokens)) for row, found in zip(batch.rows, nbest, strict=True)]
    except OutOfMemoryError:
        if len(batch.rows) == 1:
            raise
    release_memory()
    return [pair for half in batch.split() for pair in _decode(model, half, decoding, tokenizer, context)]
