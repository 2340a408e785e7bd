"""Perplexity of the internal language model by other estimators than `ilm_perplexity`, which stays what it is.

model/lm/internal.py has the definitions. Each metric is the mean over a set's utterances of exp(mean NLL), eos counted:

ilm_perplexity_zeroed         cross-attention reads zeros, so that its output projection's bias is left
ilm_perplexity_mean_context   each layer's cross-attention reads a constant, whatever the token is:

    mean context of layer l = sum_n sum_u c_l(n, u) / sum_n U_n

over the tokens u of all utterances n of the dev sets, their references given to the decoder with their audio. c_l(n, u)
is what the heads of layer l read at that token, before the output projection. The literature takes the mean over the
training data, which is the same pass over more of it.
Shapes: B utterances, U tokens, L decoder layers, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from model.corpora.corpus import Corpus
from model.data.batches import make_scoring_batches
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances, load_utterances
from model.evaluation.internal_lm import sequence_perplexities
from model.evaluation.scoring import load_dev_utterances
from model.lm.internal import make_context_memory, make_zero_memory
from model.network.decoder import CrossAttentionMemory, Decoder
from model.network.losses import IGNORED
from model.network.making import refuse_custom
from model.network.recogniser import Recogniser, shift_right
from model.recipe.decoding import IlmEstimator
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext
from model.runtime.progress import note_progress

TEXTS_IN_A_BATCH = 64


def score_estimators(
    model: Recogniser, corpus: Corpus, tokenizer: Tokenizer, context: DistributedContext, batch_seconds: float
) -> dict[str, float]:
    """The metrics of the dev sets pooled, and of each test set. A corpus without dev sets has no mean context.

    Raises a UserError where the network is a user's own: what its cross-attention reads is not known.
    """
    dev = load_dev_utterances(corpus, tokenizer) if corpus.set_names("dev") else None
    estimators = [one for one in get_args(IlmEstimator) if one != "mean_context" or dev is not None]
    memories = _make_memories(model, dev, estimators, context, batch_seconds)
    sets = {f"test/{name}": load_utterances(corpus, [(name, 1.0)], tokenizer) for name in corpus.set_names("test")}
    sets = sets if dev is None else {"dev": dev} | sets
    return {key: value for name, one in sets.items() for key, value in _score(model, name, one, memories, context)}


def score_dev_estimators(
    model: Recogniser,
    dev: Utterances,
    estimators: Sequence[IlmEstimator],
    context: DistributedContext,
    batch_seconds: float,
) -> dict[str, float]:
    """The metrics of the dev sets pooled by these estimators, as `score_estimators` has them."""
    memories = _make_memories(model, dev, estimators, context, batch_seconds)
    return dict(_score(model, "dev", dev, memories, context))


def refuse_estimators(recipe: Recipe) -> None:
    """A UserError where other estimators than `skipped` are not possible with the recipe's network."""
    refuse_custom(recipe, "another estimator of the internal language model", "leave it out")


def _make_memories(
    model: Recogniser,
    dev: Utterances | None,
    estimators: Sequence[IlmEstimator],
    context: DistributedContext,
    batch_seconds: float,
) -> dict[str, CrossAttentionMemory]:
    """What cross-attention reads by each estimator; the mean context is measured on the dev sets."""
    refuse_estimators(model.recipe)
    model.eval()
    memories: dict[str, CrossAttentionMemory] = {}
    for estimator in estimators:
        if estimator == "zeroed":
            memories[estimator] = make_zero_memory(model.decoder)
        else:
            assert dev is not None
            contexts = measure_contexts(model, dev, context, batch_seconds)
            memories[estimator] = make_context_memory(model.decoder, contexts)
    return memories


def _score(
    model: Recogniser,
    name: str,
    utterances: Utterances,
    memories: Mapping[str, CrossAttentionMemory],
    context: DistributedContext,
) -> Iterator[tuple[str, float]]:
    for estimator, memory in memories.items():
        yield f"{name}/ilm_perplexity_{estimator}", mean_perplexity(model, utterances, memory, context)


@torch.inference_mode()
def measure_contexts(
    model: Recogniser, utterances: Utterances, context: DistributedContext, batch_seconds: float
) -> Tensor:
    """The mean context of each layer, (L, D), over the tokens of the utterances; the same on all ranks."""
    sums = torch.zeros(len(model.decoder.layers), model.decoder.norm.weight.numel(), dtype=torch.double)
    tokens = 0
    for batch in make_scoring_batches(utterances, batch_seconds, context.rank, context.world_size):
        labels = batch.labels.to(context.device)
        on_device = batch.to(context.device)
        encoded = model.encode(on_device.features, on_device.lengths)
        with record_contexts(model.decoder) as contexts:
            model.decoder.layer_outputs(shift_right(labels, model.special), model.prepare_memory(encoded))
        is_token = (labels != IGNORED)[..., None]
        sums += torch.stack([(one * is_token).double().sum(dim=(0, 1)) for one in contexts]).cpu()
        tokens += int(is_token.sum())
        note_progress()
    *totals, count = context.sum_over_ranks([*sums.flatten().tolist(), float(tokens)])
    means = torch.tensor(totals, dtype=torch.double).view_as(sums) / count
    return means.float().to(context.device)


@contextmanager
def record_contexts(decoder: Decoder) -> Iterator[list[Tensor]]:
    """A list that gets what each layer's cross-attention reads, (B, U, D), while the decoder runs in the block."""
    recorded: list[Tensor] = []

    def record(projection: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        recorded.append(inputs[0])

    hooks = [layer.cross_attention.out.register_forward_pre_hook(record) for layer in decoder.typed_layers()]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()


def mean_perplexity(
    model: Recogniser, utterances: Utterances, memory: CrossAttentionMemory | None, context: DistributedContext
) -> float:
    """The mean of exp(mean NLL) over the utterances, whose decoder reads a memory of a single utterance."""
    order = np.argsort(utterances.label_counts, kind="stable")  # little of a batch is padding
    total = 0.0
    for first in range(context.rank * TEXTS_IN_A_BATCH, len(order), context.world_size * TEXTS_IN_A_BATCH):
        labels = [torch.tensor(utterances.labels(int(row))) for row in order[first : first + TEXTS_IN_A_BATCH]]
        rows = [torch.cat((torch.tensor([model.special.bos]), one)) for one in labels]
        ids = pad_sequence(rows, batch_first=True, padding_value=model.special.pad).to(context.device)
        lengths = torch.tensor([[len(row)] for row in rows], device=context.device)
        mask = torch.arange(ids.shape[1], device=context.device) < lengths
        total += float(sequence_perplexities(model, ids, mask, memory).sum())
        note_progress()
    return context.sum_over_ranks([total])[0] / len(utterances)
