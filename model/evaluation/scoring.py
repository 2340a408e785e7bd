"""Scoring sets of a corpus: decode, count edits and measure perplexities, over all ranks.

Every metric has one definition (shared by training, `evaluate` and the study):
`wer` and `cer` pool counts over a set; `perplexity` is exp(total NLL / total tokens) with the audio; `ilm_perplexity`
is the mean over utterances of exp(mean NLL) without it; `ilm_perplexity_corpus` and `ilm_perplexity_word` are
exp(total NLL / tokens) and exp(total NLL / words) without it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from model.data.batches import Batch, make_scoring_batches
from model.data.corpus import Corpus
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances, load_utterances
from model.decoding.beam_search import beam_search
from model.evaluation.error_rates import ScoredUtterance, character_edits, error_rate, perplexity, word_edits
from model.evaluation.internal_lm import token_nll
from model.network.losses import IGNORED
from model.network.recogniser import EncoderOutput, Recogniser, shift_right
from model.recipe.recipe import DecodingConfig
from model.runtime.distributed import DistributedContext
from model.runtime.memory import convert_memory_failures
from model.strict import write_atomically

AVERAGED = ("wer", "cer", "perplexity", "ilm_perplexity")  # the metrics that domains have, too


def score_set(
    model: Recogniser,
    utterances: Utterances,
    decoding: DecodingConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
) -> list[ScoredUtterance]:
    """Every utterance of a set, scored; the list is the same on all ranks, in the order of ids.

    Raises an OutOfMemoryError where a batch does not fit in memory.
    """
    model.eval()
    own: list[ScoredUtterance] = []
    advice = "lower decoding.batch_seconds, decoding.beam or the model's sizes"
    with torch.inference_mode():
        for batch in make_scoring_batches(utterances, decoding.batch_seconds, context.rank, context.world_size):
            size = f"{len(batch.ids)} utterances x {batch.features.shape[1]} frames, beam {decoding.beam}"
            with convert_memory_failures(f"decoding {size}", advice):
                own += _score_batch(model, batch.to(context.device), utterances, decoding, tokenizer)
    return sorted(_gather(own, context.world_size), key=lambda utterance: utterance.id)


def _score_batch(
    model: Recogniser, batch: Batch, utterances: Utterances, decoding: DecodingConfig, tokenizer: Tokenizer
) -> list[ScoredUtterance]:
    encoded = model.encode(batch.features, batch.lengths)
    nbest = beam_search(model, encoded, decoding.beam, decoding.ctc_weight, None, decoding.length_penalty)
    labels = batch.labels.to(encoded.states.device)
    nll, ilm_nll = _nll(model, encoded, labels), _ilm_nll(model, labels)
    scored = []
    for index, utterance in enumerate(batch.ids):
        reference, hypothesis = utterances.texts[utterance], tokenizer.decode(nbest[index][0].tokens)
        edits = word_edits(reference, hypothesis), character_edits(reference, hypothesis)
        tokens = len(utterances.labels[utterance])
        scored.append(ScoredUtterance(utterance, reference, hypothesis, *edits, nll[index], ilm_nll[index], tokens))
    return scored


def _nll(model: Recogniser, encoded: EncoderOutput, labels: Tensor) -> list[float]:
    """-log p of each utterance's labels given the audio, summed over its tokens: (B, U) -> B."""
    logits = model.decoder.final_logits(shift_right(labels, model.special), model.prepare_memory(encoded))
    nll = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return nll.sum(dim=1).tolist()


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


def compute_metrics(scored: Sequence[ScoredUtterance], prefix: str) -> dict[str, float]:
    """The metrics of a set under `prefix`, for example `dev/wer`."""
    tokens = sum(utterance.tokens for utterance in scored)
    words = sum(utterance.words.length for utterance in scored)
    ilm_nll = sum(utterance.ilm_nll for utterance in scored)
    ilm_perplexities = [perplexity(utterance.ilm_nll, utterance.tokens) for utterance in scored]
    values = {
        "wer": error_rate(utterance.words for utterance in scored),
        "cer": error_rate(utterance.characters for utterance in scored),
        "perplexity": perplexity(sum(utterance.nll for utterance in scored), tokens),
        "ilm_perplexity": sum(ilm_perplexities) / len(scored),
        "ilm_perplexity_corpus": perplexity(ilm_nll, tokens),
        "ilm_perplexity_word": perplexity(ilm_nll, words),
    }
    return {f"{prefix}/{name}": value for name, value in values.items()}


def average_domains(corpus: Corpus, metrics: Mapping[str, float]) -> dict[str, float]:
    """`in_domain/*` and `out_of_domain/*`: plain means of a metric over the test sets of that domain."""
    domains = {"in_domain": corpus.set_names("test", "in"), "out_of_domain": corpus.set_names("test", "out")}
    return {
        f"{domain}/{metric}": sum(metrics[f"test/{name}/{metric}"] for name in sets) / len(sets)
        for domain, sets in domains.items()
        if sets
        for metric in AVERAGED
    }


def load_dev_utterances(corpus: Corpus, tokenizer: Tokenizer) -> Utterances:
    """The utterances of all dev sets together."""
    return Utterances.merge(load_utterances(corpus, name, 1.0, tokenizer)[1] for name in corpus.set_names("dev"))


def score_test_sets(
    model: Recogniser,
    corpus: Corpus,
    decoding: DecodingConfig,
    tokenizer: Tokenizer,
    context: DistributedContext,
    folder: Path,
) -> dict[str, float]:
    """Metrics of every test set and of both domains; rank 0 writes the scored utterances into `folder`."""
    metrics: dict[str, float] = {}
    for name in corpus.set_names("test"):
        _, utterances = load_utterances(corpus, name, 1.0, tokenizer)
        scored = score_set(model, utterances, decoding, tokenizer, context)
        metrics |= compute_metrics(scored, f"test/{name}")
        write_hypotheses(scored, folder / f"{name}.jsonl", context)
    return metrics | average_domains(corpus, metrics)


def write_hypotheses(scored: Sequence[ScoredUtterance], path: Path, context: DistributedContext) -> None:
    """A JSON object in each line: reference, hypothesis, edits as [S, D, I, N], NLL. Rank 0 writes it."""
    if context.rank == 0:
        lines = [json.dumps(dataclasses.asdict(utterance), ensure_ascii=False) for utterance in scored]
        write_atomically(path, "".join(f"{line}\n" for line in lines))
