"""What the tests of GPUs share. Most bodies run on this processor too, in `make test`; `make test-gpu` runs the rest.

They need torch with CUDA and what the package `model` imports, and no network: corpora are made here, of noise. Without
the fixtures of the other tests: `pytest --confcutdir=tests/gpu -m gpu tests/gpu`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from large_corpora import make_large_corpus

from model.corpora.corpus import Corpus
from model.data.batches import Batch
from model.data.features import feature_folder
from model.network.losses import IGNORED, Counts
from model.network.recogniser import Recogniser
from model.recipe.architecture import MEL_BINS
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from model.training.prepare import prepare

NO_GPU = "NOT TESTED: no GPU here"
STILL = {"encoder.dropout": 0.0, "decoder.dropout": 0.0, "training.precision": "fp32"}
CLASSES = {
    "loss.auxiliary": {"placement": [2], "weights": [0.4]},
    "loss.inter_ctc": {"layers": [1], "weight": 0.3},
}
LENGTHS, LABELS = (301, 200, 157), (13, 9, 4)  # odd on purpose: fused kernels want multiples of eight


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """This processor, in the suite, and a GPU, in `make test-gpu`."""
    return request.getfixturevalue("gpu") if request.param == "cuda" else torch.device("cpu")


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The first GPU, whose matrix products in fp32 are exact; the test that asks for it has the mark `gpu`."""
    if not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    torch.set_float32_matmul_precision("highest")
    yield torch.device("cuda", torch.cuda.current_device())
    torch.cuda.empty_cache()


@pytest.fixture(scope="session")
def noise_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Utterances of 4 to 16 s with made-up text, whose features are noise; there is no audio."""
    corpus = make_large_corpus(tmp_path_factory.mktemp("noise") / "corpus", {"train": 24, "dev": 2})
    draw = np.random.default_rng(0)
    for name in ("train", "dev"):
        for file in feature_folder(corpus, name, 1.0).glob("*.npy"):
            features = np.load(file, mmap_mode="r+")
            features[:] = draw.standard_normal(features.shape, dtype=np.float32)
    return corpus


@pytest.fixture(scope="session")
def noise_recipe(noise_corpus: Corpus) -> Callable[..., Recipe]:
    """A recipe of the corpus of noise that trains in seconds, with dotted keys replaced."""
    values = {
        "tokenizer.vocabulary": 32,
        "data.batch_seconds": 120.0,
        "data.buckets": 2,
        "training.epochs": 1,
        "decoding_search.share": 0.0,
        "encoder.layers": 2,
        "encoder.width": 32,
        "encoder.heads": 2,
        "encoder.channels": 8,
        "decoder.layers": 2,
        "decoder.width": 32,
        "decoder.heads": 2,
    }
    base = prepare(with_values(named_recipe("tiny", str(noise_corpus.folder)), values))
    return lambda more=None: with_values(base, more or {})


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Recogniser]:
    """A recogniser on the CPU, by the name of its recipe, without dropout: equal weights at each call."""

    def make(name: str = "tiny", values: dict[str, Any] | None = None) -> Recogniser:
        torch.manual_seed(0)
        return Recogniser(with_values(named_recipe(name, "corpus"), STILL | CLASSES | (values or {})))

    return make


@pytest.fixture(scope="session")
def batch() -> Batch:
    """Three utterances of noise on the host, with repeated labels."""
    generator = torch.Generator().manual_seed(1)
    features = torch.zeros(len(LENGTHS), max(LENGTHS), MEL_BINS)
    labels = torch.full((len(LENGTHS), max(LABELS)), IGNORED)
    for row, (frames, tokens) in enumerate(zip(LENGTHS, LABELS, strict=True)):
        features[row, :frames] = torch.randn(frames, MEL_BINS, generator=generator)
        labels[row, :tokens] = torch.randint(4, 12, (tokens,), generator=generator)
        labels[row, tokens - 1] = 1
    counts = Counts(len(LENGTHS), sum(LABELS))
    return Batch([str(row) for row in range(len(LENGTHS))], features, torch.tensor(LENGTHS), labels, counts)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
