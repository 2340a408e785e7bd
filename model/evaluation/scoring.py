"""Scoring sets of a corpus: decode, count edits and measure likelihoods, over all ranks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from model.corpora.corpus import Corpus
from model.data.batches import Batch, make_scoring_batches
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances, load_utterances
from model.decoding.beam_search import beam_search
from model.decoding.ctc_greedy import decode_ctc_greedy
from model.decoding.decoder_steps import keep_graphs
from model.decoding.encoding import encode, keep_cast_weights
from model.decoding.fusion import make_fusion
from model.decoding.length_limit import resolve_tokens_per_second
from model.errors import OutOfMemoryError
from model.evaluation.decoding_clock import DecodingClock
from model.evaluation.error_rates import ALIGNER, ScoredUtterance, character_edits, word_edits
from model.evaluation.internal_lm import token_nll
from model.evaluation.metrics import average_domains, compute_metrics
from model.network.decoder import CrossAttentionMemory
from model.network.losses import IGNORED
from model.network.recogniser import Recogniser, shift_right
from model.recipe.decoding import DecodingConfig, SearchConfig
from model.runtime.distributed import DistributedContext
from model.runtime.memory import convert_memory_failures, release_memory
from model.runtime.progress import note_progress
from model.strict import write_atomically


def score_set(
    model: Recogniser,
    utterances: Utterances,
    decoding: SearchConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
    clock: DecodingClock | None = None,
) -> list[ScoredUtterance]:
    """Every utterance of a set, scored; the list is the same on all ranks, in the order of ids.

    `clock` counts how long this rank's utterances take to decode. A batch that does not fit in memory is split. Raises
    an OutOfMemoryError where a single utterance does not fit.
    """
    model.eval()
    own: list[ScoredUtterance] = []
    clock = clock or DecodingClock()
    with torch.inference_mode(), use_mixing(model, decoding), keep_cast_weights(context.device), keep_graphs():
        for batch in make_scoring_batches(utterances, decoding.batch_seconds, context.rank, context.world_size):
            own += _score_in_parts(model, batch, utterances, decoding, tokenizer, context.device, clock)
            note_progress()
    return sorted(_gather(own, context.world_size), key=lambda utterance: utterance.id)


def _score_in_parts(
    model: Recogniser,
    batch: Batch,
    utterances: Utterances,
    decoding: SearchConfig,
    tokenizer: Tokenizer,
    device: torch.device,
    clock: DecodingClock,
) -> list[ScoredUtterance]:
    """Score a batch, or where memory does not suffice each half of it."""
    size = f"{len(batch.ids)} utterances x {batch.features.shape[1]} frames, beam {decoding.beam}"
    try:
        with convert_memory_failures(f"decoding {size}", "lower the decoding's beam or the model's sizes"):
            return _score_batch(model, batch.to(device), utterances, decoding, tokenizer, clock)
    except OutOfMemoryError:
        if len(batch.ids) == 1:  # a beam is not split: at 60 s of audio, one of 10 takes a tenth more memory than 1
            raise
    release_memory()
    halves = batch.split()
    rest = utterances, decoding, tokenizer, device, clock
    return [scored for half in halves for scored in _score_in_parts(model, half, *rest)]


def _score_batch(
    model: Recogniser,
    batch: Batch,
    utterances: Utterances,
    decoding: SearchConfig,
    tokenizer: Tokenizer,
    clock: DecodingClock,
) -> list[ScoredUtterance]:
    bound = resolve_tokens_per_second(decoding.tokens_per_second, model.tokens_per_second)
    search = decoding.beam, decoding.ctc_weight, None, decoding.length_penalty, bound
    fusion = make_fusion(model, decoding, tokenizer)
    with clock.measure(float(utterances.seconds[batch.rows].sum()), batch.features.device):
        encoded = encode(model, batch.features, batch.lengths, decoding)
        memory = model.prepare_memory(encoded)
        nbest = beam_search(model, encoded, *search, fusion, memory)
    ctc_paths = decode_ctc_greedy(model, encoded)
    labels = batch.labels.to(encoded.states.device)
    nll, ilm_nll = _nll(model, memory, labels), _ilm_nll(model, labels)
    scored = []
    for index, (row, utterance) in enumerate(zip(batch.rows, batch.ids, strict=True)):
        reference, hypothesis = utterances.text(row), tokenizer.decode(nbest[index][0].tokens)
        *layer_nll, final_nll = (sums[index] for sums in nll)
        scored.append(
            ScoredUtterance(
                id=utterance,
                reference=reference,
                hypothesis=hypothesis,
                words=word_edits(reference, hypothesis),
                characters=character_edits(reference, hypothesis),
                nll=final_nll,
                ilm_nll=ilm_nll[index],
                tokens=len(utterances.labels(row)),
                ctc_words=word_edits(reference, tokenizer.decode(ctc_paths[index])),
                layer_nll=tuple(layer_nll),
                speaker=utterances.speaker(row),
                set_name=utterances.set_name(row),
            )
        )
    return scored


@contextlib.contextmanager
def use_mixing(model: Recogniser, decoding: SearchConfig) -> Iterator[None]:
    """Decode as `decoding` mixes the classifiers, while the block runs; validation uses the final one alone."""
    mixing = decoding.mixing if isinstance(decoding, DecodingConfig) else "none"
    before, device = model.decoder.mixing, model.device
    if isinstance(decoding, DecodingConfig) and mixing == "none":  # weights that `mix` learned stay
        yield
        return
    model.decoder.mixing = None if mixing == "none" else torch.tensor(mixing, device=device)
    try:
        yield
    finally:
        model.decoder.mixing = before


def _nll(model: Recogniser, memory: CrossAttentionMemory, labels: Tensor) -> list[list[float]]:
    """-log p of each utterance's labels given the audio, summed over its tokens: for each of N classifiers, the final
    one last, (B, U) -> B."""
    logits = model.decoder.classify(shift_right(labels, model.special), memory)
    nll = [
        F.cross_entropy(scores.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        for scores in logits
    ]
    return [losses.sum(dim=1).tolist() for losses in nll]


def _ilm_nll(model: Recogniser, labels: Tensor) -> list[float]:
    """-log p of each utterance's labels without the audio, summed over its tokens: (B, U) -> B."""
    ids = torch.cat((labels.new_full((labels.shape[0], 1), model.special.bos), labels), dim=1)
    mask = ids != IGNORED
    return token_nll(model, ids.masked_fill(~mask, model.special.pad), mask).sum(dim=1).tolist()


def _gather(own: list[ScoredUtterance], world_size: int) -> list[ScoredUtterance]:
    """The utterances of all ranks."""
    if world_size == 1:
        return own
    shares: list[list[ScoredUtterance]] = [[] for _ in range(world_size)]
    dist.all_gather_object(shares, own)
    return [utterance for share in shares for utterance in share]


def load_dev_utterances(corpus: Corpus, tokenizer: Tokenizer) -> Utterances:
    """The utterances of all dev sets together."""
    return load_utterances(corpus, ((name, 1.0) for name in corpus.set_names("dev")), tokenizer)


def score_test_sets(
    model: Recogniser,
    corpus: Corpus,
    decoding: SearchConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
    folder: Path,
) -> dict[str, float]:
    """Metrics of every test set and of both domains; rank 0 writes the scored utterances into `folder`."""
    metrics: dict[str, float] = {}
    for name in corpus.set_names("test"):
        utterances = load_utterances(corpus, [(name, 1.0)], tokenizer)
        scored = score_set(model, utterances, decoding, tokenizer, context)
        metrics |= compute_metrics(scored, f"test/{name}")
        write_hypotheses(scored, folder / f"{name}.jsonl", corpus, decoding, context)
    return metrics | average_domains(corpus, metrics)


def write_hypotheses(
    scored: Sequence[ScoredUtterance], path: Path, corpus: Corpus, decoding: SearchConfig, context: DistributedContext
) -> None:
    """A JSON object in each line: reference, hypothesis, edits as [S, D, I, N], NLL; rank 0 writes it.

    Beside it, with the ending .settings.json: the normaliser, the aligner and the decoding that the figures belong to.
    """
    if context.rank == 0:
        settings = {
            "normaliser": corpus.normaliser_version,
            "aligner": ALIGNER,
            "decoding": decoding.content,
        }
        lines = [json.dumps(dataclasses.asdict(utterance), ensure_ascii=False) for utterance in scored]
        write_atomically(path.with_suffix(".settings.json"), json.dumps(settings, indent=1) + "\n")
        write_atomically(path, "".join(f"{line}\n" for line in lines))
