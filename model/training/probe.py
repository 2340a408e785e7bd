"""A probe of a recipe: a few steps of it are trained for real, on a sample of its corpus, and timed.

Nothing of the sample is kept: what a whole training needs is scaled up from it by whoever asked.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.corpora.corpus import Corpus, SetKind
from model.corpora.corpus_writer import assemble, draft_of
from model.corpora.manifest import Entry
from model.corpora.parts import CheckedSegment
from model.data.batches import TrainingSet
from model.data.recipe_inputs import ensure_tokenizer, load_corpus, load_tokenizer
from model.recipe.architecture import SAMPLE_RATE
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training.loop import train
from model.training.prepare import prepare
from model.weights.chosen import CHOSEN

STEPS, EPOCHS = 4, 4  # of the probe; the first epoch warms up and is not counted
DEV_SECONDS = 60.0  # of dev audio that is scored after each epoch
MOST_DRAWN = 20_000  # utterances of a set that the sample is drawn from: its first ones
TRAIN, DEV = "train", "dev"


@dataclass(frozen=True)
class Probe:
    """What a recipe needs here: one figure for each epoch of the probe that counts, in seconds.

    `step` is of an optimiser step by one of the workers, without the exchange of gradients; `scoring` is for each
    second of dev audio, by one worker. `pass_steps` are the steps of a pass over the whole corpus; `weight_bytes` is
    the size of a model's file.
    """

    step: tuple[float, ...]
    scoring: tuple[float, ...]
    pass_steps: int
    weight_bytes: int


def probe_recipe(recipe: Recipe, workers: int = 1) -> Probe:
    """Train a few steps of a recipe as one of so many workers would. Raises what training it raises."""
    corpus = load_corpus(recipe)
    with tempfile.TemporaryDirectory(prefix="decred-probe-") as temporary:
        folder = Path(temporary)
        share = recipe.data.batch_seconds / workers
        dev_seconds = write_sample(corpus, folder / "corpus", STEPS * share, DEV_SECONDS)
        sampled = prepare(with_values(recipe, _values(recipe, corpus, folder / "corpus", share)))
        reports: list[dict[str, float]] = []
        train(sampled, folder / "run", lambda metrics: reports.append(metrics), score_tests=False)
        counted = [metrics for metrics in reports if "finished" not in metrics][1:]
        files = (folder / "run" / CHOSEN).rglob("*")
        weight_bytes = max(file.stat().st_size for file in files if file.is_file())
    return Probe(
        step=tuple(metrics["train/seconds"] / STEPS for metrics in counted),
        scoring=tuple(metrics["dev/seconds"] / dev_seconds for metrics in counted),
        pass_steps=_count_steps(recipe, corpus),
        weight_bytes=weight_bytes,
    )


def write_sample(corpus: Corpus, folder: Path, train_seconds: float, dev_seconds: float) -> float:
    """Write a corpus of so much speech of another one, whose audio stays where it is; the seconds of its dev set."""
    kinds = {TRAIN: SetKind(role="train"), DEV: SetKind(role="dev")}
    chosen = {TRAIN: _draw(corpus, "train", train_seconds), DEV: _draw(corpus, "dev", dev_seconds)}
    with draft_of(folder) as draft:
        content = (_place(corpus, entry, name) for name, entries in chosen.items() for entry in entries)
        assemble(draft, "probe", corpus.normaliser, kinds, content, "probe")
    return sum(entry.samples for entry in chosen[DEV]) / SAMPLE_RATE


def _count_steps(recipe: Recipe, corpus: Corpus) -> int:
    """The steps of a pass over the corpus; its features need not be there, as if waveforms were changed."""
    augmentation = with_values(recipe, {"augmentation.gain_share": 1.0}).augmentation
    tokenizer = load_tokenizer(recipe, corpus)
    return TrainingSet(corpus, recipe.data, augmentation, tokenizer, recipe.training.data_share).count_steps(0)


def _draw(corpus: Corpus, role: str, seconds: float) -> list[Entry]:
    """Utterances of all sets of a role in an order without meaning, until they have so many seconds."""
    entries: list[Entry] = []
    for name in corpus.set_names(role):  # type: ignore[arg-type]
        entries += [entry for entry, _ in zip(corpus.entries(name), range(MOST_DRAWN), strict=False)]
    entries.sort(key=lambda entry: hashlib.blake2b(entry.id.encode(), digest_size=8).digest())
    return list(_take(entries, seconds))


def _take(entries: list[Entry], seconds: float) -> Iterator[Entry]:
    left = seconds * SAMPLE_RATE
    for entry in entries:
        if left <= 0:
            return
        yield entry
        left -= entry.samples


def _place(corpus: Corpus, entry: Entry, set_name: str) -> CheckedSegment:
    return CheckedSegment(
        place=entry.id,
        id=entry.id,
        set_name=set_name,
        text=entry.text,
        speaker=entry.speaker,
        audio=entry.audio,
        findings=(),
        samples=entry.samples,
        digest="",
        rate=entry.rate,
        frames=entry.frames,
        channels=entry.channels,
    )


def _values(recipe: Recipe, corpus: Corpus, sample: Path, batch_seconds: float) -> dict[str, object]:
    """What the probe changes of the recipe: the tokenizer is that of the whole corpus."""
    return {
        "data.corpus": str(sample),
        "data.fingerprint": None,
        "data.speeds": [1.0],
        "data.buckets": 1,
        "data.label_buckets": 1,
        "data.batch_seconds": batch_seconds,
        "tokenizer.file": str(ensure_tokenizer(recipe, corpus).resolve()),
        "tokenizer.fingerprint": None,
        "validation.utterances": None,  # the sample's own size is what is timed
        "validation.ilm_estimators": [],
        "training.epochs": EPOCHS,
        "training.epoch_share": None,
        "training.epoch_steps": STEPS,
        "training.data_share": 1.0,
        "optimiser.warmup_steps": None,
        "optimiser.decay": "none",
        "decoding_search.share": 0.0,
    }
