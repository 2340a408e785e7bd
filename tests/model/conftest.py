"""The goldens (folders in the published layout with what the reference computed from them) and a pair of workers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from processes import WorkerPair
from safetensors.torch import load_file
from torch import Tensor

from model.network.recogniser import Recogniser
from model.weights.published.checkpoint import load_pretrained

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Published:
    """A loaded checkpoint beside the reference's inputs and outputs (integers are int32)."""

    folder: Path
    model: Recogniser
    io: dict[str, Tensor]

    @property
    def input(self) -> tuple[Tensor, Tensor]:
        return self.io["input_features"], self.io["input_lengths"]

    def expected_tokens(self, name: str) -> list[list[int]]:
        """Token ids of each row of a golden tensor, without bos and without what follows eos."""
        return [self._strip(row) for row in self.io[name].tolist()]

    def _strip(self, row: list[int]) -> list[int]:
        ids, special = row[1:], self.model.special
        if special.eos in ids:
            return ids[: ids.index(special.eos) + 1]
        while ids and ids[-1] == special.pad:
            ids.pop()
        return ids


@pytest.fixture(scope="session")
def made_up_text() -> Callable[[int], list[str]]:
    """Sentences of words of random syllables, enough for a tokenizer of a hundred pieces; another seed, other words."""

    def make(seed: int) -> list[str]:
        draw = random.Random(seed)
        syllables = ["".join(pair) for pair in itertools.product("bdfglmnprst", "aeiou")]
        words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(100)]
        return [" ".join(draw.choices(words, k=8)) for _ in range(200)]

    return make


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def published(request: pytest.FixtureRequest) -> Published:
    """The checkpoint that the test names as its parameter."""
    folder = GOLDEN / request.param
    return Published(folder, load_pretrained(folder), load_file(folder / "io.safetensors"))


@pytest.fixture(scope="session")
def worker_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPair]:
    """Two processes in a gloo group, for all tests that need one."""
    pair = WorkerPair(tmp_path_factory.mktemp("pair"))
    yield pair
    pair.close()
