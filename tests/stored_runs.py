"""Runs whose weights are in their folder or in an object store, for tests that hold both to the same promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from model.weights.checkpoint_files import TrainingPosition
from model.weights.object_store import ObjectStore
from model.weights.run_checkpoints import save_run_checkpoint


@dataclass
class Place:
    """A run's folder whose weights are in it, or in a store; and what a test does to them."""

    folder: Path
    url: str | None
    move: Callable[[], None]  # to another machine, where nothing but folder and store is the same

    @cached_property
    def store(self) -> ObjectStore:
        assert self.url is not None
        return ObjectStore(self.url)

    def names(self, kind: str) -> list[str]:
        """The folders of a kind."""
        if self.url is None:
            return sorted(path.name for path in (self.folder / kind).glob("*"))
        return sorted({name.split("/")[0] for name in self.store.sizes(kind)})

    def read(self, name: str) -> bytes:
        content = (self.folder / name).read_bytes() if self.url is None else self.store.read(name)
        assert content is not None
        return content

    def replace(self, name: str, content: bytes | None) -> None:
        """Give a file another content, or None to remove it."""
        if self.url is None:
            (self.folder / name).unlink() if content is None else (self.folder / name).write_bytes(content)
        elif content is None:
            self.store.remove([name])
        else:
            self.store.write(name, content)


def position(epoch: int) -> TrainingPosition:
    return TrainingPosition(epoch, 10 * epoch, 0, 0, "hash", epoch, 0, tokens_per_second=3.5)


def trained(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Linear(4, 4, bias=False)
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimiser.step()
    return model, optimiser


def save(place: Place, *epochs: int) -> None:
    for epoch in epochs:
        save_run_checkpoint(place.folder, *trained(epoch), position(epoch))
