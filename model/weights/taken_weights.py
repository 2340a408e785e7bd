"""What a training started from: which tensors were taken from other weights, which started fresh, which were not used.

A run keeps it in its folder as initialisation.json.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.strict import write_atomically
from model.weights.matching import Shape, find_vocabulary

INITIALISATION_FILE = "initialisation.json"
_LISTED = 4  # groups of tensors in a line


@dataclass(frozen=True)
class TensorNote:
    """A tensor and what became of it.

    `source`: the tensor there that it was taken from, and `rows` how many of its rows, None for all. `reason`: why it
    starts fresh.
    """

    name: str
    shape: Shape
    source: str | None = None
    rows: int | None = None
    reason: str | None = None

    @property
    def parameters(self) -> int:
        return math.prod(self.shape if self.rows is None else (self.rows, *self.shape[1:]))

    def to_json(self) -> dict[str, Any]:
        """Without what is usual: a source of the same name, all rows."""
        further = {"source": None if self.source == self.name else self.source, "rows": self.rows}
        further |= {"reason": self.reason}
        shown = {key: value for key, value in further.items() if value is not None}
        return {"name": self.name, "shape": list(self.shape)} | shown


@dataclass(frozen=True)
class TakenWeights:
    """What was taken from the weights in a folder; `unused` are tensors of these weights, the others of the model.

    `same_ids` is how many of the `vocabulary` token ids stand for the same piece there, None where that is not known.
    """

    init_from: str
    fingerprint: str
    taken: tuple[TensorNote, ...]
    fresh: tuple[TensorNote, ...]
    unused: tuple[TensorNote, ...]
    vocabulary: int
    same_ids: int | None = None

    @property
    def are_ids_mistaken(self) -> bool:
        """Whether rows were taken by id though the ids stand for other pieces there."""
        by_id = any(find_vocabulary(tensor.name) and tensor.rows is None for tensor in self.taken)
        return by_id and self.same_ids not in (None, self.vocabulary)

    def describe(self) -> str:
        """One line, with the tensors that start fresh in groups of the same reason."""
        parts = [f"took {_count(self.taken)}" if self.taken else "took nothing"]
        if partial := [tensor for tensor in self.taken if tensor.rows is not None]:
            groups = itertools.groupby(partial, key=lambda tensor: (_part(tensor), tensor.rows, tensor.shape[0]))
            rows = [f"{some} of {all_} rows of {_name_together(list(group))}" for (_, some, all_), group in groups]
            parts[0] += f", but {', '.join(rows)}"
        if self.fresh:
            parts.append(f"{_count(self.fresh)} start{'s' * (len(self.fresh) == 1)} fresh: {_list_groups(self.fresh)}")
        if self.unused:
            parts.append(f"not used: {_list_groups(self.unused)}")
        if self.are_ids_mistaken:
            parts.append(
                f"only {self.same_ids} of {self.vocabulary} token ids stand for the same piece there, but rows were "
                "taken by id (initialisation.vocabulary)"
            )
        return f"init_from {self.init_from}: {'; '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """All of it, with the number of parameters."""
        taken, whole = (sum(tensor.parameters for tensor in tensors) for tensors in (self.taken, self._list_whole()))
        return {
            "init_from": self.init_from,
            "fingerprint": self.fingerprint,
            "parameters": {
                "taken": taken,
                "fresh": whole - taken,  # with the rows for pieces that these weights lack
                "unused": sum(tensor.parameters for tensor in self.unused),
            },
            "same_token_ids": self.same_ids,
            "taken": [tensor.to_json() for tensor in self.taken],
            "fresh": [tensor.to_json() for tensor in self.fresh],
            "unused": [tensor.to_json() for tensor in self.unused],
        }

    def _list_whole(self) -> list[TensorNote]:
        """All tensors of the model, with all rows."""
        return [TensorNote(tensor.name, tensor.shape) for tensor in (*self.taken, *self.fresh)]

    def record(self, folder: Path) -> None:
        """Write it into a run's folder, and log the line."""
        write_atomically(folder / INITIALISATION_FILE, _write_lines(self.to_json()))
        # The lowest level that is shown where nothing has set up logging, as in `train` and in a worker.
        logging.getLogger(__name__).warning("%s", self.describe())


def _write_lines(content: dict[str, Any]) -> str:
    """JSON with a line for each tensor."""

    def write(value: Any) -> str:
        if not isinstance(value, list) or not value:
            return json.dumps(value)
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"

    return "{\n " + ",\n ".join(f"{json.dumps(key)}: {write(value)}" for key, value in content.items()) + "\n}\n"


def _count(tensors: Sequence[TensorNote]) -> str:
    parameters = sum(tensor.parameters for tensor in tensors)
    size = f"{parameters / 1e6:.1f} M" if parameters >= 1e5 else str(parameters)
    return f"{len(tensors)} tensor{'s' * (len(tensors) != 1)} ({size} parameters)"


def _list_groups(tensors: Sequence[TensorNote]) -> str:
    """Tensors in a row with the same reason and the same first part of their names, as `decoder.* (its reason)`."""
    groups = [
        f"{_name_together(list(group))}{f' ({reason})' if reason else ''}"
        for (_, reason), group in itertools.groupby(tensors, key=lambda tensor: (_part(tensor), tensor.reason))
    ]
    more = f", and {len(groups) - _LISTED} more" if len(groups) > _LISTED else ""
    return f"{', '.join(groups[:_LISTED])}{more}"


def _part(tensor: TensorNote) -> str:
    return tensor.name.partition(".")[0]


def _name_together(tensors: Sequence[TensorNote]) -> str:
    """The name of a tensor, or of several what all names begin with."""
    if len(tensors) == 1:
        return tensors[0].name
    return ".".join([*_common_parts([tensor.name.split(".") for tensor in tensors]), "*"])


def _common_parts(names: Iterable[Sequence[str]]) -> list[str]:
    together = zip(*names, strict=False)
    return [parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, together)]
