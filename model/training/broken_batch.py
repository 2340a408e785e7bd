"""The batch that broke a training: kept in the run's folder as the model was fed it, and read back.

broken-batch-{rank}.safetensors   part-{n}/features (B, T, 80) after augmentation, part-{n}/lengths (B,) in frames,
                                  part-{n}/labels (B, U) padded with -100
broken-batch-{rank}.json          the error's line, epoch, step in it (from 1), step of the run, recipe hash, ids and
                                  counts of the global batch; of each part its ids, their sets, and losses if known

    from model.training.broken_batch import read_broken
    for part in read_broken(Path("runs/first/broken-batch-0.json")):
        model(part.features, part.lengths, part.labels, part.counts)
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from safetensors.torch import save as serialised

from model.data.batches import Batch, TrainingSet
from model.errors import NonFiniteLossError, OutOfMemoryError, UserError
from model.network.losses import Counts, Losses
from model.runtime.memory import first_words, is_memory_failure
from model.strict import write_atomically
from model.training.memory_probe import size_words
from model.training.optimiser import Step

TENSORS = ("features", "lengths", "labels")


@dataclass
class Attempt:
    """One optimiser step under way: its place (from 1), the global batch, this worker's parts on the host, the step."""

    epoch: int
    step: int
    global_step: int
    batch: list[str]
    parts: list[Batch] = field(default_factory=list)
    taken: Step | None = None

    @property
    def place(self) -> str:
        return f"at epoch {self.epoch}, step {self.step}"


@dataclass(frozen=True)
class Keeper:
    """Where a worker keeps its share of a batch that broke, and what identifies the run."""

    folder: Path
    rank: int
    recipe_hash: str
    training: TrainingSet

    @contextlib.contextmanager
    def keeping(self, attempt: Attempt) -> Iterator[None]:
        """Within it an error keeps the attempt's batch on its way; a NonFiniteLossError then says where.

        A failure to get memory becomes an OutOfMemoryError.
        """
        try:
            yield
        except Exception as error:
            lacking = OutOfMemoryError(_lacking(attempt, error)) if is_memory_failure(error) else None
            name = self.keep(attempt, lacking or error)
            if isinstance(error, NonFiniteLossError) and name:
                error.args = (f"{error}; its batch is in {name}",)
            if lacking:
                raise lacking from None
            raise

    def keep(self, attempt: Attempt, error: Exception) -> str | None:
        """Write the attempt's batch and return the name of its JSON file; None, and a warning, where that fails."""
        name = f"broken-batch-{self.rank}.json"
        try:
            tensors = {f"part-{n}/{key}": getattr(one, key) for n, one in enumerate(attempt.parts) for key in TENSORS}
            content = serialised({key: value.contiguous() for key, value in tensors.items()})
            write_atomically((self.folder / name).with_suffix(".safetensors"), content)
            write_atomically(self.folder / name, json.dumps(self._facts(attempt, error), indent=1, ensure_ascii=False))
        except Exception as failure:  # the training's own error must be the one that is told
            reason = " ".join(str(failure).split())
            logging.getLogger(__name__).warning("the batch that broke could not be kept: %s", reason)
            return None
        return name

    def _facts(self, attempt: Attempt, error: Exception) -> dict[str, Any]:
        stores, labels = self.training.utterances.stores, self.training.utterances.labels
        losses = _losses(attempt.taken.losses if attempt.taken else [])
        parts = [{"utterances": one.ids, "sets": [stores[key].set_name for key in one.ids]} for one in attempt.parts]
        return {
            "error": f"{type(error).__name__}: {' '.join(str(error).split())}",
            "epoch": attempt.epoch,
            "step": attempt.step,
            "global_step": attempt.global_step,
            "recipe": self.recipe_hash,
            "rank": self.rank,
            "batch": attempt.batch,
            "counts": {"utterances": len(attempt.batch), "tokens": sum(len(labels[one]) for one in attempt.batch)},
            "parts": [part | {"losses": losses[n] if losses else None} for n, part in enumerate(parts)],
        }


def _losses(done: list[Losses]) -> list[dict[str, float | str]]:
    """The loss terms of each part; one that is no finite number as a string, since JSON has none."""
    terms = ("total", "ctc", "attention", "inter_ctc")
    values = [{name: float(getattr(one, name).detach()) for name in terms} for one in done]
    return [{name: value if math.isfinite(value) else str(value) for name, value in one.items()} for one in values]


def _lacking(attempt: Attempt, error: Exception) -> str:
    utterances, frames = max((one.features.shape[:2] for one in attempt.parts), key=math.prod, default=(0, 0))
    parts = f"{len(attempt.parts)} part{'s' if len(attempt.parts) > 1 else ''}"
    return (
        f"out of memory {attempt.place}, in {parts} of up to {size_words(utterances, frames)} ({first_words(error)}); "
        "lower data.batch_seconds or the model's sizes, or raise optimiser.accumulate"
    )


def read_broken(path: Path) -> list[Batch]:
    """The parts of a kept batch, from its JSON file; a UserError where either file cannot be read."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(path.with_suffix(".safetensors"))
        counts = Counts(**facts["counts"])
        ids = [part["utterances"] for part in facts["parts"]]
        fed = [{key: tensors[f"part-{n}/{key}"] for key in TENSORS} for n in range(len(ids))]
        return [Batch(ids=some, **one, counts=counts) for some, one in zip(ids, fed, strict=True)]
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: holds no broken batch ({reason}); give a run's broken-batch-0.json") from None
