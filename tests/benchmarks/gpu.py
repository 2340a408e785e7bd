"""The GPU's tables of RESULTS.md: `make benchmark-gpu`, ten minutes at most, without network.

    PYTHONPATH=.:tests python -m benchmarks.gpu [--device cuda] [--tiny]

Weights are random and features noise: what is measured does not depend on them. MFU is the share of the GPU's peak
(gpu_stopwatch.py) that the products and convolutions of a step make, forward and backward.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.gpu_pieces import attention_rows, ctc_rows, step_rows
from benchmarks.gpu_stopwatch import Timing, count_flop, format_table, measure, peak_flops
from large_corpora import make_large_corpus

from model.data.batches import Batch
from model.data.frontend import FRAMES_PER_SECOND
from model.decoding.beam_search import decode
from model.decoding.decoder_steps import keep_graphs
from model.network.losses import Counts
from model.network.recogniser import Recogniser
from model.recipe.architecture import MEL_BINS
from model.recipe.files import named_recipe, with_values
from model.runtime.distributed import DistributedContext
from model.runtime.memory import is_memory_failure, release_memory
from model.training.loop import train_epoch
from model.training.optimiser import make_optimiser, train_step
from model.training.prepare import prepare
from model.training.run import compile_layers, start_or_resume

SECONDS, LABELS = 10.0, 40  # of an utterance


@dataclass(frozen=True)
class Scale:
    """How much is measured: the recipes with the seconds of a batch (None: the recipe's), and rounds."""

    recipes: tuple[str, ...]
    batch_seconds: float | None
    steps: tuple[tuple[str, bool], ...]  # precision, and whether layers are compiled
    rounds: int
    utterances: int  # that are scored, and in each batch of the pieces
    tokens: int
    corpus: int  # utterances of the corpus that is read


STEPS = (("bf16", False), ("bf16", True), ("tf32", False), ("fp32", False))
WHOLE = Scale(("small", "base"), None, STEPS, 5, 32, 60, 1500)
TINY = Scale(("tiny",), 20.0, (("fp32", False),), 1, 2, 4, 8)


def make_batch(utterances: int, device: torch.device) -> Batch:
    """Noise on the host, pinned as training reads it."""
    frames = int(SECONDS * FRAMES_PER_SECOND)
    labels = torch.randint(4, 32, (utterances, LABELS))
    ids, counts = [str(row) for row in range(utterances)], Counts(utterances, utterances * LABELS)
    features = torch.randn(utterances, frames, MEL_BINS)
    batch = Batch(ids, features, torch.full((utterances,), frames), labels, counts)
    return batch.pin_memory() if device.type == "cuda" else batch


def train_rows(name: str, scale: Scale, device: torch.device) -> Iterator[list[str]]:
    """A step at the recipe's batch size, in as many parts as fit: in bf16, compiled, and in TF32 and fp32."""
    for precision, compiled in scale.steps:
        recipe = named_recipe(name, "corpus")
        model = Recogniser(recipe).to(device).train()
        if compiled:
            compile_layers(model)
        audio = scale.batch_seconds or recipe.data.batch_seconds
        parts = 1
        while True:
            try:
                yield _train_row(model, scale, device, precision, audio, parts, compiled)
                break
            except Exception as error:
                if not is_memory_failure(error) or parts > audio / SECONDS:
                    raise
            release_memory()
            parts *= 2
        torch.compiler.reset()


def _train_row(
    model: Recogniser, scale: Scale, device: torch.device, precision: str, audio: float, parts: int, compiled: bool
) -> list[str]:
    utterances = max(1, int(audio / SECONDS / parts))
    part = make_batch(utterances, device)
    optimiser = make_optimiser(model, model.recipe.optimiser)

    def work() -> None:
        moved = [part.to(device) for _ in range(parts)]
        train_step(model, moved, optimiser, 1e-4, 1.0, precision)

    flop = 0.0 if compiled else count_flop(work)  # graphs are not looked into
    timing = measure(work, device, scale.rounds)
    peak = peak_flops(device_name(device), precision)
    mfu = f"{100 * flop / timing.seconds / peak:.1f} %" if peak and flop else "-"
    name = f"{model.recipe.name} {precision}" + (", compiled" if compiled else "")
    hours = parts * utterances * SECONDS / 3600 / timing.seconds
    return [name, f"{parts} x {utterances}", *_timing_cells(timing), f"{hours:.3f}", mfu]


def _timing_cells(timing: Timing) -> tuple[str, str, str]:
    host = f"{100 * timing.host_seconds / timing.seconds:.0f} %"
    return f"{timing.seconds:.4f}", host, f"{timing.peak_bytes / 2**30:.1f}"


def scoring_rows(name: str, scale: Scale, device: torch.device) -> Iterator[list[str]]:
    """Decoding of utterances of ten seconds, encoder included, every hypothesis to its last token."""
    model = Recogniser(named_recipe(name, "corpus")).to(device).eval()
    with torch.no_grad():
        model.decoder.final.weight[model.special.eos] = 0.0  # no search ends early
    batch = make_batch(scale.utterances, device).to(device)
    for beam, ctc_weight in ((1, 0.0), (5, 0.3)):

        def work(beam: int = beam, ctc_weight: float = ctc_weight) -> Any:
            return decode(
                model, batch.features, batch.lengths, beam=beam, ctc_weight=ctc_weight, max_length=scale.tokens + 1
            )

        with keep_graphs():
            timing = measure(work, device, max(1, scale.rounds // 2), warm_up=1)
        rtf = timing.seconds / (scale.utterances * SECONDS)
        yield [name, f"beam {beam}, CTC {ctc_weight:g}", f"{timing.seconds:.3f}", f"{rtf:.5f}"]


def reading_row(name: str, scale: Scale, device: torch.device) -> list[str]:
    """The share of an epoch's time that training waits for batches of cached features, read by a thread."""
    with tempfile.TemporaryDirectory() as temporary:
        corpus = make_large_corpus(Path(temporary) / "corpus", {"train": scale.corpus, "dev": 1})
        values: dict[str, Any] = {"tokenizer.vocabulary": 32, "data.speeds": [1.0], "training.epochs": 2}
        if scale.batch_seconds:
            values["data.batch_seconds"] = scale.batch_seconds
        recipe = prepare(with_values(named_recipe(name, str(corpus.folder)), values))
        run = start_or_resume(recipe, Path(temporary) / "run", DistributedContext(0, 1, device))
        train_epoch(run)
        train_epoch(run)
        figures = run.state.losses
    waited = 100 * figures["train/wait_seconds"] / figures["train/seconds"]
    hours = figures["train/frames_per_second"] / FRAMES_PER_SECOND / 3600
    return [name, f"{run.state.step // 2}", f"{figures['train/seconds']:.2f}", f"{waited:.1f} %", f"{hours:.3f}"]


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def print_tables(device: torch.device, scale: Scale, write: Callable[[str], Any] = print) -> None:
    """All tables, each as soon as it is measured."""
    write(f"# {device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    header = ["step", "parts x utterances of 10 s", "s", "host busy", "peak GiB", "hours of audio a second", "MFU"]
    rows = [row for name in scale.recipes for row in train_rows(name, scale, device)]
    write(format_table("Training steps", header, rows))
    header = ["recipe", "steps", "s an epoch", "waiting for batches", "hours of audio a second"]
    write(format_table("Reading", header, [reading_row(name, scale, device) for name in scale.recipes]))
    header = ["recipe", "decoding", "s", "real-time factor"]
    rows = [row for name in scale.recipes for row in scoring_rows(name, scale, device)]
    write(format_table("Scoring", header, rows))
    header = ["CTC loss, forward and backward", "s", "host busy", "peak GiB"]
    write(format_table("CTC", header, ctc_rows(device, scale.utterances, scale.rounds)))
    header = ["relative attention, forward and backward", "s", "host busy", "peak GiB"]
    write(format_table("Attention", header, attention_rows(device, scale.utterances, scale.rounds)))
    header = ["a step of the decoder, beam 5", "s", "host busy", "peak GiB"]
    models = [Recogniser(named_recipe(name, "corpus")).to(device).eval() for name in scale.recipes]
    rows = [row for model in models for row in step_rows(model, device, 1, 5, 4 * scale.rounds)]
    write(format_table("Decoder", header, rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="seconds, to try it")
    options = parser.parse_args()
    print_tables(torch.device(options.device), TINY if options.tiny else WHOLE)
