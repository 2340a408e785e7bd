"""A recipe being trained in a folder: loaded from its last checkpoint, or from the initial weights."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from model.corpora.corpus import Corpus
from model.data.batches import TrainingSet
from model.data.reading import TrainingData
from model.data.recipe_inputs import load_corpus, load_run_tokenizer, load_tokenizer
from model.data.tokenizer import TOKENIZER_FILE, Tokenizer
from model.data.utterances import Utterances
from model.errors import UserError
from model.evaluation.dev_part import choose_part
from model.evaluation.scoring import load_dev_utterances
from model.network.kernels.precision import has_bf16_units
from model.network.making import make_model
from model.network.recogniser import Recogniser
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext
from model.runtime.memory import keep_freed_memory
from model.runtime.stop_request import StopRequest
from model.strict import to_yaml, write_atomically
from model.training.memory_probe import Parts
from model.training.optimiser import freeze, make_optimiser
from model.training.prepare import refuse_summed_ctc
from model.weights import checkpoint, checkpoint_files
from model.weights.initial import load_initial_weights
from model.weights.run_checkpoints import fetch_run_checkpoint, find_run_checkpoint
from model.weights.run_store import local_folder


@dataclass
class ScoredRun:
    """What scoring a run takes: its recipe, folder and model, and the dev sets of its corpus."""

    recipe: Recipe
    folder: Path
    context: DistributedContext
    corpus: Corpus
    tokenizer: Tokenizer
    model: Recogniser
    dev: Utterances

    @functools.cached_property
    def validated(self) -> Utterances:
        """The utterances of the dev sets that are scored after each epoch."""
        return choose_part(self.dev, self.recipe.validation.utterances)

    @property
    def validates_part(self) -> bool:
        """Whether these are not all of them."""
        return self.validated is not self.dev

    @property
    def hypotheses(self) -> Path:
        return self.folder / "hypotheses"


@dataclass
class TrainingRun(ScoredRun):
    """A run that is trained: what stays the same, and `state`, which every epoch replaces; `stop` may ask it to stop.

    `parallel_model` is the model, in DDP where there are several ranks. `parts` is how many a rank's share of a batch
    has, by the batch's bucket: the recipe's `accumulate`, or more where memory is short.
    """

    parallel_model: nn.Module
    optimiser: torch.optim.Optimizer
    data: TrainingData
    training_set: TrainingSet
    state: checkpoint_files.TrainingPosition
    parts: Parts
    stop: StopRequest = field(default_factory=StopRequest)

    @property
    def checkpoints(self) -> Path:
        """Where this machine has them."""
        return local_folder(self.folder) / checkpoint_files.CHECKPOINTS

    @property
    def is_finished(self) -> bool:
        return self.state.epoch >= self.recipe.training.epochs


@dataclass(frozen=True)
class Resumption:
    """Where a run continues: the checkpoint's folder, or None for a new run; and whether its epoch was reported."""

    path: Path | None
    position: checkpoint_files.TrainingPosition
    is_reported: bool


def find_resumption(recipe: Recipe, folder: Path, context: DistributedContext) -> Resumption:
    """Where the run continues, as rank 0 finds it: a file system may show the others an older or a newer checkpoint."""
    found: Resumption | UserError | None = None
    if context.rank == 0:
        try:
            found = _find(recipe, folder)
        except UserError as error:
            found = error
    found = context.from_rank_0(found)
    if isinstance(found, UserError):
        raise found
    assert found is not None
    return found


def _find(recipe: Recipe, folder: Path) -> Resumption:
    latest, is_reported = find_run_checkpoint(folder)
    if latest is None:
        return Resumption(None, checkpoint_files.initial_position(recipe), False)
    position = checkpoint_files.load_position(latest, recipe)
    return Resumption(latest, position, is_reported)


def start_or_resume(
    recipe: Recipe, folder: Path, context: DistributedContext, resumption: Resumption | None = None
) -> TrainingRun:
    """Everything that the next step needs, from the checkpoint of `resumption` or from the initial weights.

    A new run's recipe and tokenizer are written into the folder, which from then on can be used without the corpus.
    """
    resumption = resumption or find_resumption(recipe, folder, context)
    latest = resumption.path and fetch_run_checkpoint(folder, resumption.path)
    keep_freed_memory()
    refuse_summed_ctc(recipe)
    corpus = load_corpus(recipe)
    tokenizer = load_run_tokenizer(recipe, folder) if latest else load_tokenizer(recipe, corpus)
    torch.manual_seed(recipe.training.seed)
    if context.rank == 0 and recipe.training.precision == "bf16" and not has_bf16_units(context.device):
        message = "training.precision is bf16, for which this processor has no units; set it to fp32, far faster here"
        logging.getLogger(__name__).warning(message)
    model = make_model(recipe).to(context.device)
    freeze(model, recipe.training.freeze)
    optimiser = make_optimiser(model, recipe.optimiser)
    if latest:
        checkpoint.load_weights(latest, model)
        checkpoint.load_optimiser(latest, model, optimiser)
    else:
        taken = load_initial_weights(model, tokenizer)
        if taken is not None and context.rank == 0:
            taken.record(folder)
    if context.rank == 0:
        _write_identity(recipe, tokenizer, folder, is_new=latest is None)
    if recipe.training.compile:
        compile_layers(model)
    share = recipe.training.data_share
    data = TrainingData(str(corpus.folder), str(tokenizer.path.resolve()), recipe.data, recipe.augmentation, share)
    training_set = TrainingSet(corpus, recipe.data, recipe.augmentation, tokenizer, share)
    model.tokens_per_second = training_set.tokens_per_second
    position = replace(resumption.position, tokens_per_second=model.tokens_per_second)
    return TrainingRun(
        recipe=recipe,
        folder=folder,
        context=context,
        corpus=corpus,
        tokenizer=tokenizer,
        model=model,
        dev=load_dev_utterances(corpus, tokenizer),
        parallel_model=_parallelise(model) if context.world_size > 1 else model,
        optimiser=optimiser,
        data=data,
        training_set=training_set,
        state=position,
        parts=(recipe.optimiser.accumulate,) * training_set.buckets,
    )


def load_scored_run(recipe: Recipe, folder: Path, context: DistributedContext) -> ScoredRun:
    """A run whose training has ended, without weights."""
    corpus, tokenizer = load_corpus(recipe), load_run_tokenizer(recipe, folder)
    model = make_model(recipe).to(context.device)
    return ScoredRun(recipe, folder, context, corpus, tokenizer, model, load_dev_utterances(corpus, tokenizer))


def _write_identity(recipe: Recipe, tokenizer: Tokenizer, folder: Path, is_new: bool) -> None:
    """Write what a run is loaded with beside its checkpoint; runs of older versions get their tokenizer on resume."""
    if is_new:
        write_atomically(folder / "recipe.yaml", to_yaml(recipe))
    if is_new or not (folder / TOKENIZER_FILE).is_file():
        write_atomically(folder / TOKENIZER_FILE, tokenizer.content)


def compile_layers(model: Recogniser, backend: str = "inductor") -> None:
    """Compile each layer: one graph for all layers of a kind and for batches of all sizes but 1."""
    for layer in (*model.encoder.layers, *model.decoder.layers):
        layer.compile(dynamic=True, backend=backend)  # else each new size is compiled, until torch gives up


def _parallelise(model: Recogniser) -> DistributedDataParallel:
    """DDP that sends no buffers, since they never change, and whose gradients are views of the buckets it sends."""
    return DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
