"""Scoring sets of a corpus: decode, count edits, measure perplexities, over all workers.

Every number has one definition (shared by training, `evaluate` and the study):
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

from model.data.batches import Batch, Utterances, scoring_batches, utterances_of
from model.data.corpus import Corpus
from model.data.tokenizer import Tokenizer
from model.decoding.beam_search import beam_search
from model.evaluation.error_rates import Scored, character_edits, error_rate, perplexity, word_edits
from model.evaluation.internal_lm import token_nll
from model.network.losses import IGNORED
from model.network.recogniser import EncoderOutput, Recogniser, shift_right
from model.recipe.recipe import DecodingConfig
from model.runtime.memory import naming_memory_failure
from model.runtime.workers import Workers
from model.strict import write_atomically


def score_set(
    model: Recogniser, utterances: Utterances, decoding: DecodingConfig, tokenizer: Tokenizer, workers: Workers
) -> list[Scored]:
    """Every utterance of a set, scored; the list is the same on all workers, in the order of ids.

    A batch that does not fit in memory is an OutOfMemoryError.
    """
    model.eval()
    mine: list[Scored] = []
    with torch.inference_mode():
        for batch in scoring_batches(utterances, decoding.batch_seconds, workers.rank, workers.world):
            size = f"{len(batch.ids)} utterances x {batch.features.shape[1]} frames, beam {decoding.beam}"
            with naming_memory_failure(
                f"decoding {size}", "lower decoding.batch_seconds, decoding.beam or the model's sizes"
            ):
                mine += _score_batch(model, batch.to(workers.device), utterances, decoding, tokenizer)
    return sorted(_gathered(mine, workers.world), key=lambda one: one.id)


def _score_batch(
    model: Recogniser, batch: Batch, utterances: Utterances, decoding: DecodingConfig, tokenizer: Tokenizer
) -> list[Scored]:
    encoded = model.encode(batch.features, batch.lengths)
    nbest = beam_search(model, encoded, decoding.beam, decoding.ctc_weight, None, decoding.length_penalty)
    labels = batch.labels.to(encoded.states.device)
    nll, ilm_nll = _nll(model, encoded, labels), _ilm_nll(model, labels)
    scored = []
    for index, one in enumerate(batch.ids):
        reference, hypothesis = utterances.texts[one], tokenizer.text(nbest[index][0][0])
        edits = word_edits(reference, hypothesis), character_edits(reference, hypothesis)
        tokens = len(utterances.labels[one])
        scored.append(Scored(one, reference, hypothesis, *edits, nll[index], ilm_nll[index], tokens))
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


def _gathered(mine: list[Scored], world: int) -> list[Scored]:
    if world == 1:
        return mine
    shares: list[list[Scored]] = [[] for _ in range(world)]
    dist.all_gather_object(shares, mine)
    return [one for share in shares for one in share]


def set_metrics(scored: Sequence[Scored], prefix: str) -> dict[str, float]:
    """The metrics of one set under `prefix`, for example `dev/wer`."""
    tokens = sum(one.tokens for one in scored)
    words = sum(one.words.length for one in scored)
    ilm_nll = sum(one.ilm_nll for one in scored)
    values = {
        "wer": error_rate(one.words for one in scored),
        "cer": error_rate(one.characters for one in scored),
        "perplexity": perplexity(sum(one.nll for one in scored), tokens),
        "ilm_perplexity": sum(perplexity(one.ilm_nll, one.tokens) for one in scored) / len(scored),
        "ilm_perplexity_corpus": perplexity(ilm_nll, tokens),
        "ilm_perplexity_word": perplexity(ilm_nll, words),
    }
    return {f"{prefix}/{name}": value for name, value in values.items()}


def macro_metrics(corpus: Corpus, metrics: Mapping[str, float]) -> dict[str, float]:
    """`in_domain/*` and `out_of_domain/*`: plain means of a metric over the test sets of that domain."""
    means = {}
    for label, sets in (("in_domain", corpus.names("test", "in")), ("out_of_domain", corpus.names("test", "out"))):
        for metric in ("wer", "cer", "perplexity", "ilm_perplexity"):
            if sets:
                means[f"{label}/{metric}"] = sum(metrics[f"test/{name}/{metric}"] for name in sets) / len(sets)
    return means


def dev_utterances(corpus: Corpus, tokenizer: Tokenizer) -> Utterances:
    """The utterances of all dev sets together."""
    return Utterances.together(utterances_of(corpus, name, 1.0, tokenizer)[1] for name in corpus.names("dev"))


def score_tests(
    model: Recogniser,
    corpus: Corpus,
    decoding: DecodingConfig,
    tokenizer: Tokenizer,
    workers: Workers,
    hypotheses: Path,
) -> dict[str, float]:
    """Metrics of every test set and of both domains; worker 0 writes the scored utterances under `hypotheses`."""
    metrics: dict[str, float] = {}
    for name in corpus.names("test"):
        _, utterances = utterances_of(corpus, name, 1.0, tokenizer)
        scored = score_set(model, utterances, decoding, tokenizer, workers)
        metrics |= set_metrics(scored, f"test/{name}")
        write_hypotheses(scored, hypotheses / f"{name}.jsonl", workers)
    return metrics | macro_metrics(corpus, metrics)


def write_hypotheses(scored: Sequence[Scored], path: Path, workers: Workers) -> None:
    """One JSON object a line: reference, hypothesis, edits as [S, D, I, N], NLL."""
    if workers.rank == 0:
        lines = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in scored]
        write_atomically(path, "".join(f"{line}\n" for line in lines))
