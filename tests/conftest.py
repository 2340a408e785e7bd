"""A miniature of the demo, shared by all tests: the corpus is spoken once a session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.connect import connected
from model.data.corpus import Corpus
from model.data.demo.build import make_demo
from model.prepare import prepare
from model.recipe import Recipe
from model.recipe_files import named_recipe, with_values
from study.runner import Work

HERE = Path(__file__).parent
STUB = Work("stub_training:train", "stub_training:prepare")
MINIATURE = {
    "data.batch_seconds": 12.0,
    "data.buckets": 2,
    "tokenizer.vocabulary": 40,
    "encoder.layers": 1,
    "encoder.width": 16,
    "encoder.heads": 2,
    "encoder.feed_forward": 16,
    "encoder.cgmlp": 16,
    "encoder.channels": 4,
    "decoder.layers": 4,
    "decoder.width": 16,
    "decoder.heads": 2,
    "decoder.feed_forward": 16,
    "training.epochs": 2,
    "optimiser.warmup_steps": 2,
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Two cores are shared with the workers that some tests start.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Forty utterances of the demo."""
    folder = tmp_path_factory.mktemp("corpus") / "demo"
    return make_demo(folder, train_utterances=24, dev_utterances=4, test_utterances=4)


@pytest.fixture(scope="session")
def make_recipe(corpus: Corpus) -> Callable[..., Recipe]:
    """A recipe that trains in a second, with dotted keys replaced."""
    base = prepare(with_values(named_recipe("tiny", str(corpus.folder)), MINIATURE))

    def make(values: dict[str, Any] | None = None) -> Recipe:
        return with_values(base, values or {})

    return make


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture(scope="session")
def stub() -> Work:
    """The stand-in for training, importable here and, through PYTHONPATH, in every process that is started."""
    sys.path.insert(0, str(HERE))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return STUB


@pytest.fixture(scope="session")
def ray_here(stub: Work) -> Iterator[None]:
    """An embedded Ray that lives as long as the tests."""
    with connected(cpus=2):
        yield
