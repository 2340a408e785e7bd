"""The speed of two versions of the model, taking turns in one process: `python tests/benchmarks/versions.py OTHER`.

OTHER is a checkout of the other version. Prints a Markdown table: medians of both, and how many times faster this one
is. Both have the same weights and inputs; rows whose names are given alone are measured.
Shapes: B utterances of some seconds each.
"""

from __future__ import annotations

import functools
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parents[2]
THREADS, VOCABULARY, BEAMS = 2, 5000, {"joint beam 4": (1, 4), "joint beam 8 of 16": (16, 8)}
MIXTURE = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0)
Work = Callable[[], Any]


class Version:
    """The modules of one checkout, whose package `model` is imported beside another's."""

    def __init__(self, root: Path) -> None:
        for name in [name for name in sys.modules if name == "model" or name.startswith("model.")]:
            del sys.modules[name]
        sys.path.insert(0, str(root))
        self.losses, self.recogniser = self._import("network.losses"), self._import("network.recogniser")
        self.files, self.batches = self._import("recipe.files"), self._import("data.batches")
        self.optimiser, self.search = self._import("training.optimiser"), self._import("decoding.beam_search")
        self._import("runtime.memory").keep_freed_memory()
        sys.path.pop(0)
        assert str(self.recogniser.__file__).startswith(str(root)), "another checkout is on the path"

    @staticmethod
    def _import(name: str) -> Any:
        return importlib.import_module(f"model.{name}")

    def make_model(self, precision: str = "fp32") -> Any:
        """The small model of 39.8 million parameters; eos is never its best token."""
        torch.manual_seed(0)
        values = {"training.precision": precision, "loss.auxiliary": {"placement": [3], "weights": [0.3]}}
        recipe = self.files.with_values(self.files.named_recipe("small", "corpus"), values)
        model = self.recogniser.Recogniser(recipe)
        with torch.no_grad():
            model.decoder.final.weight[model.special.eos] = 0.0
        return model

    def train(self, precision: str, seconds: Sequence[float]) -> Work:
        """An optimiser step over utterances of 40 labels."""
        model, (features, frames) = self.make_model(precision).train(), make_features(seconds)
        ids = torch.randint(4, VOCABULARY, (len(seconds), 40), generator=torch.Generator().manual_seed(1))
        ids[:, -1] = model.special.eos
        counts = self.losses.Counts(len(seconds), ids.numel())
        batch = self.batches.Batch([str(row) for row in range(len(seconds))], features, frames, ids, counts)
        optimiser = self.optimiser.make_optimiser(model, model.recipe.optimiser)
        return lambda: self.optimiser.train_step(model, [batch], optimiser, 1e-4, 1.0, precision)

    def encode(self, precision: str, utterances: int) -> Work:
        """The encoder with the CTC head; in bf16 the weights are cast each time."""
        model, inputs = self.make_model().eval(), make_features([10.0] * utterances)
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        return torch.inference_mode()(autocast(lambda: model.encode(*inputs)))

    def decode(self, utterances: int, beam: int, ctc_weight: float, tokens: int) -> Work:
        """The search of hypotheses of so many tokens, after the encoder."""
        model, inputs = self.make_model().eval(), make_features([10.0] * utterances)
        with torch.inference_mode():
            encoded = model.encode(*inputs)
        search = functools.partial(self.search.beam_search, model, encoded, beam, ctc_weight, tokens + 1)
        return torch.inference_mode()(search)

    def encode_and_decode(self, utterances: int, beam: int, ctc_weight: float, tokens: int) -> Work:
        model, inputs = self.make_model().eval(), make_features([10.0] * utterances)
        return lambda: self.search.decode(model, *inputs, beam, ctc_weight, tokens + 1)


def make_features(seconds: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise for utterances of these lengths, padded together: (B, T, 80), and their lengths (B,) in frames."""
    generator, frames = torch.Generator().manual_seed(2), [int(100 * length) for length in seconds]
    features = torch.zeros(len(frames), max(frames), 80)
    for row, length in enumerate(frames):
        features[row, :length] = torch.randn(length, 80, generator=generator)
    return features, torch.tensor(frames)


def list_rows() -> Iterator[tuple[str, Callable[[Version], Work]]]:
    """What is measured: its name, and what makes the work of a version."""
    yield "training step 8 x 10 s, fp32", lambda version: version.train("fp32", [10.0] * 8)
    yield "training step 8 x 10 s, bf16", lambda version: version.train("bf16", [10.0] * 8)
    yield "training step 2 to 16 s padded together", lambda version: version.train("fp32", MIXTURE)
    yield "encoder 8 x 10 s, fp32", lambda version: version.encode("fp32", 8)
    yield "encoder 8 x 10 s, bf16", lambda version: version.encode("bf16", 8)
    yield "greedy 60 tokens after that", lambda version: version.decode(8, 1, 0.0, 60)
    for name, (utterances, beam) in BEAMS.items():
        size = functools.partial(dict, utterances=utterances, beam=beam, ctc_weight=0.3, tokens=20)
        yield f"{name}, 20 tokens, with the encoder", lambda version, size=size: version.encode_and_decode(**size())
        yield f"{name}, the search alone", lambda version, size=size: version.decode(**size())


def compare(other: Work, ours: Work, rounds: int = 7, warm_up: int = 4) -> tuple[float, float]:
    """Median seconds of both, which take turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(warm_up + rounds):
        for work, measured in zip((other, ours), seconds, strict=True):
            start = time.perf_counter()
            work()
            if number >= warm_up:  # the first rounds find memory that nobody has touched yet
                measured.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def main(other: str, *names: str) -> None:
    torch.set_num_threads(THREADS)
    versions = Version(Path(other).resolve()), Version(HERE)
    print("| work | other s | this s | times faster |\n| --- | --- | --- | --- |")
    for name, make in list_rows():
        if not names or name in names:
            before, after = compare(*(make(version) for version in versions))
            print(f"| {name} | {before:.3f} | {after:.3f} | {before / after:.2f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
