"""What it costs to train on thousands of hours, beside the training: start, memory, plan, a batch's share, waiting."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from large_corpora import make_large_corpus
from processes import run_in_new_process

from model.corpora.corpus import read_corpus
from model.data.batches import TrainingSet
from model.data.epoch_plan import DataPosition
from model.data.reading import read_ahead
from model.data.tokenizer import Tokenizer, train_tokenizer
from model.recipe.architecture import TokenizerConfig
from model.recipe.files import named_recipe, with_values

TITLE = "the data path, one speed; a batch has 1,600 s of audio for two workers"
HEADER = (
    "utterances",
    "hours",
    "prepared once s",
    "start s",
    "memory MiB",
    "plan s",
    "a share s",
    "wait at 0.5 s a step",
)
BATCH_SECONDS, STEP_SECONDS, STEPS = 1600.0, 0.5, 30


def _memory() -> float:
    """MiB of this process that no other one shares, and that are not pages of files."""
    fields = dict(
        line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:] if ":" in line
    )
    return sum(float(fields[name].split()[0]) for name in ("Private_Dirty", "Private_Clean")) / 1024


def _measure(folder: Path) -> dict[str, float]:
    """One worker of two: what it does at the start of a training and for each step."""
    tokenizer = Tokenizer(folder / "tokenizer.model")
    recipe = with_values(named_recipe("base", str(folder)), {"data.batch_seconds": BATCH_SECONDS, "data.speeds": [1.0]})
    before, began = _memory(), time.perf_counter()
    training_set = TrainingSet(read_corpus(folder), recipe.data, recipe.augmentation, tokenizer)
    figures = {"start": time.perf_counter() - began}
    began = time.perf_counter()
    plan, _ = training_set.plan_epoch(DataPosition(), None)
    figures |= {"plan": time.perf_counter() - began, "memory": _memory() - before}
    began = time.perf_counter()
    for batch in plan[:10]:
        training_set.load_share(batch.rows, 0, 2, 1, "0/0")
    figures["share"] = (time.perf_counter() - began) / 10
    waited = 0.0
    read = read_ahead(lambda batch: training_set.load_share(batch.rows, 0, 2, 1, "0/0"), plan[:STEPS])
    for step in range(STEPS):
        began = time.perf_counter()
        next(read)
        waited += time.perf_counter() - began if step else 0.0
        time.sleep(STEP_SECONDS)  # a device that works on it
    return figures | {"wait": waited / (STEPS - 1) / STEP_SECONDS}


@pytest.mark.speed
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("utterances", [300_000, 3_000_000])
def test_data_path(
    utterances: int, tmp_path: Path, add_row: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SECONDS", 900)
    corpus = make_large_corpus(tmp_path / "corpus", {"train": utterances, "dev": 10})
    texts = [entry.text for _, entry in zip(range(2000), corpus.entries("train"), strict=False)]
    train_tokenizer(texts, TokenizerConfig(vocabulary=34), corpus.folder / "tokenizer.model")
    prepared = run_in_new_process(_measure, corpus.folder)["start"]
    figures = run_in_new_process(_measure, corpus.folder)
    add_row(
        TITLE,
        HEADER,
        (
            f"{utterances:,}",
            f"{corpus.sets['train'].seconds / 3600:.0f}",
            f"{prepared:.1f}",
            *(f"{figures[name]:.2f}" for name in ("start", "memory", "plan", "share")),
            f"{100 * figures['wait']:.1f} %",
        ),
    )
    shutil.rmtree(tmp_path)
    assert figures["start"] < (3.0 if utterances == 300_000 else 15.0)
    assert figures["memory"] < (300.0 if utterances == 300_000 else 1000.0)
    assert figures["plan"] < (1.0 if utterances == 300_000 else 10.0)
    assert figures["wait"] < 0.02
