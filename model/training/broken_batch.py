"""The batch whose step failed: written into the run's folder as the model was given it, and read back.

broken-batch-{rank}.safetensors   part-{n}/features (B, T, 80) after augmentation, part-{n}/lengths (B,) in frames,
                                  part-{n}/labels (B, U) padded with -100
broken-batch-{rank}.json          the error in one line, epoch, step in it (from 1), step of the run, recipe hash, ids
                                  and counts of the global batch; of each part its ids, their sets, and losses if known

    from model.training.broken_batch import read_broken_batch
    for part in read_broken_batch(Path("runs/first/broken-batch-0.json")):
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
from safetensors.torch import save as serialise

from model.data.batches import Batch, TrainingSet
from model.data.epoch_plan import PlannedBatch
from model.errors import NonFiniteLossError, OutOfMemoryError, SplitFurtherError, UserError
from model.network.losses import Counts, Losses
from model.runtime.memory import first_sentence, is_memory_failure
from model.strict import write_atomically
from model.training.memory_probe import format_size
from model.training.optimiser import StepResult

TENSORS = ("features", "lengths", "labels")


@dataclass
class TrainingStep:
    """An optimiser step under way: epoch, step in it and step of the run (all from 1), the global batch, this rank's
    parts of it on the host, and the result once there is one."""

    epoch: int
    step: int
    global_step: int
    batch: PlannedBatch
    parts: list[Batch] = field(default_factory=list)
    result: StepResult | None = None

    @property
    def place(self) -> str:
        return f"at epoch {self.epoch}, step {self.step}"


@dataclass(frozen=True)
class BrokenBatchWriter:
    """Writes this rank's share of a batch whose step failed, with what identifies the run."""

    folder: Path
    rank: int
    recipe_hash: str
    training_set: TrainingSet

    @contextlib.contextmanager
    def write_on_error(self, step: TrainingStep) -> Iterator[None]:
        """Write the step's batch when the block raises an error, and raise it again.

        A NonFiniteLossError then names the file. A failed allocation becomes an OutOfMemoryError.
        """
        try:
            yield
        except SplitFurtherError:
            raise  # the batch is not broken: it is taken in more parts
        except Exception as error:
            memory_error = OutOfMemoryError(_memory_message(step, error)) if is_memory_failure(error) else None
            name = self.write(step, memory_error or error)
            if isinstance(error, NonFiniteLossError) and name:
                error.args = (f"{error}; its batch is in {name}",)
            if memory_error:
                raise memory_error from None
            raise

    def write(self, step: TrainingStep, error: Exception) -> str | None:
        """Write the step's batch and return the name of its JSON file; None, and a warning, where that fails."""
        name = f"broken-batch-{self.rank}.json"
        try:
            tensors = {f"part-{n}/{key}": getattr(part, key) for n, part in enumerate(step.parts) for key in TENSORS}
            content = serialise({key: tensor.contiguous() for key, tensor in tensors.items()})
            write_atomically((self.folder / name).with_suffix(".safetensors"), content)
            description = json.dumps(self._describe(step, error), indent=1, ensure_ascii=False)
            write_atomically(self.folder / name, description)
        except Exception as failure:  # the error of the training is the one to raise
            reason = " ".join(str(failure).split())
            logging.getLogger(__name__).warning("the broken batch could not be written: %s", reason)
            return None
        return name

    def _describe(self, step: TrainingStep, error: Exception) -> dict[str, Any]:
        utterances, rows = self.training_set.utterances, step.batch.rows
        losses = _format_losses(step.result.losses if step.result else [])
        parts = [
            {"utterances": part.ids, "sets": [utterances.set_name(row) for row in part.rows]} for part in step.parts
        ]
        return {
            "error": f"{type(error).__name__}: {' '.join(str(error).split())}",
            "epoch": step.epoch,
            "step": step.step,
            "global_step": step.global_step,
            "recipe": self.recipe_hash,
            "rank": self.rank,
            "batch": [utterances.id(row) for row in rows],
            "counts": {"utterances": len(rows), "tokens": int(utterances.label_counts[rows].sum())},
            "parts": [part | {"losses": losses[n] if losses else None} for n, part in enumerate(parts)],
        }


def _format_losses(losses: list[Losses]) -> list[dict[str, float | str]]:
    """The loss terms of each part; those that are not finite as strings, since JSON has no such numbers."""
    terms = ("total", "ctc", "attention", "inter_ctc")
    values = [{name: float(getattr(part, name).detach()) for name in terms} for part in losses]
    return [{name: value if math.isfinite(value) else str(value) for name, value in part.items()} for part in values]


def _memory_message(step: TrainingStep, error: Exception) -> str:
    utterances, frames = max((part.features.shape[:2] for part in step.parts), key=math.prod, default=(0, 0))
    parts = f"{len(step.parts)} part{'s' if len(step.parts) > 1 else ''}"
    return (
        f"out of memory {step.place}, in {parts} of up to {format_size(utterances, frames)} ({first_sentence(error)}); "
        "lower data.batch_seconds or the model's sizes, or raise optimiser.accumulate"
    )


def read_broken_batch(path: Path) -> list[Batch]:
    """The parts of a broken batch, from its JSON file. Raises a UserError where either of its files is unreadable."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        tensors = load_file(path.with_suffix(".safetensors"))
        counts = Counts(**description["counts"])
        ids_of_parts = [part["utterances"] for part in description["parts"]]
        parts = [[tensors[f"part-{n}/{key}"] for key in TENSORS] for n in range(len(ids_of_parts))]
        return [
            Batch(ids, features, lengths, labels, counts)
            for ids, (features, lengths, labels) in zip(ids_of_parts, parts, strict=True)
        ]
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: holds no broken batch ({reason}); give a run's broken-batch-0.json") from None
