"""The weights that a training has chosen: averaged, and written as `chosen` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.strict import sync_file
from model.weights.checkpoint_files import WEIGHTS
from model.weights.chosen import CANDIDATES, CHOSEN, Candidate, Chosen, candidate_folder, replaced_folder, write_chosen
from model.weights.run_store import find_store, local_folder


def average_candidates(folder: Path, candidates: Sequence[Candidate]) -> dict[str, Tensor]:
    """The mean of the candidates' weights."""
    store, paths = find_store(folder), [candidate_folder(folder, candidate.epoch) for candidate in candidates]
    if store is not None:  # rank 0 has published them, and others may be on another machine
        paths = [store.fetch(f"{CANDIDATES}/{path.name}") for path in paths]
    return average([load_file(path / WEIGHTS) for path in paths])


def average(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor; a single state is returned as it is."""
    if len(states) == 1:
        return states[0]
    names = states[0] if states else {}
    return {name: torch.stack([state[name].double() for state in states]).mean(dim=0).float() for name in names}


def save_chosen(folder: Path, state: dict[str, Tensor], chosen: Chosen) -> None:
    """Write the chosen weights of the run in a folder; they then survive a power cut."""
    store = find_store(folder)
    with replaced_folder(local_folder(folder) / CHOSEN) as draft:
        save_file({name: value.contiguous() for name, value in state.items()}, draft / WEIGHTS)
        sync_file(draft / WEIGHTS)
        write_chosen(draft, chosen)
    if store is not None:
        store.publish_folder(CHOSEN)
        with replaced_folder(folder / CHOSEN) as draft:
            write_chosen(draft, chosen)
