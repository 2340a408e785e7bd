"""The weights that a training keeps in the end, and the candidates for them while it goes on.

candidates/epoch-0003/   model.safetensors (a link to that checkpoint's) and candidate.json: an epoch that may be chosen
chosen/                  model.safetensors and chosen.json: what a run is decoded, exported and continued from. It is
                         there once training has come to its end, or was stopped for good

A folder is written beside its place and then moved there, so a crash leaves it whole or not at all. Where an object
store keeps the run's weights (model/weights/run_store.py), candidates and chosen are there, and the run's own folder
has chosen.json alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from model.errors import UserError
from model.recipe.training import TrainingConfig
from model.strict import make_folders, sync_file, sync_folder
from model.weights.checkpoint_files import CHECKPOINTS, POSITION, WEIGHTS, latest_checkpoint
from model.weights.run_store import find_store, local_folder, read_weights_at, write_weights_at

CANDIDATES, CHOSEN = "candidates", "chosen"
CANDIDATE_FILE, CHOSEN_FILE = "candidate.json", "chosen.json"
REMOVED_FILE = "weights-removed.txt"  # in a run's folder, in place of its weights: why they were removed
STOPPED = "stopped"  # the rule of a training that was stopped for good before its end


@dataclass(frozen=True)
class Candidate:
    """An epoch whose weights are kept, and the metrics of the dev sets with them."""

    epoch: int
    metrics: dict[str, float]

    @property
    def wer(self) -> float:
        return self.metrics["dev/wer"]


@dataclass(frozen=True)
class Chosen:
    """What was chosen: the rule, the epochs whose weights went in, and where training stood.

    `metrics` are those of the dev sets with the chosen weights, by the recipe's `validation`.
    `tokens_per_second` bounds hypotheses. `seconds` are those of all training steps.
    """

    rule: str
    epochs: tuple[int, ...]
    epoch: int
    step: int
    recipe_hash: str
    tokens_per_second: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def keep_candidate(folder: Path, weights: Path, candidate: Candidate, settings: TrainingConfig) -> None:
    """Keep the weights of an epoch in a run's folder where its choice may need them, and drop those it no longer needs.

    Candidates of later epochs are dropped as well: they come from a training that was taken back to an earlier epoch.
    """
    known = {other.epoch: other for other in list_candidates(folder) if other.epoch < candidate.epoch}
    needed, store, place = _rank([*known.values(), candidate], settings), find_store(folder), local_folder(folder)
    if candidate in needed:
        with replaced_folder(candidate_folder(place, candidate.epoch)) as draft:
            link_file(weights, draft / WEIGHTS)
            (draft / CANDIDATE_FILE).write_text(json.dumps(asdict(candidate)))
            sync_file(draft / CANDIDATE_FILE)
    epochs = {other.epoch for other in needed}
    for path in (place / CANDIDATES).glob("epoch-*"):
        if _epoch(path) not in epochs:
            shutil.rmtree(path, ignore_errors=True)
    if store is not None:
        store.publish(CANDIDATES)


def list_candidates(folder: Path) -> list[Candidate]:
    """The candidates of a run's folder, by epoch, as this machine has them."""
    paths = sorted((local_folder(folder) / CANDIDATES).glob("epoch-*"), key=_epoch)
    # A process that was killed while it removed one left a part of it, which is no candidate.
    paths = [path for path in paths if all((path / name).is_file() for name in (CANDIDATE_FILE, WEIGHTS))]
    return [Candidate(**json.loads((path / CANDIDATE_FILE).read_text(encoding="utf-8"))) for path in paths]


def _rank(candidates: Sequence[Candidate], settings: TrainingConfig) -> list[Candidate]:
    """The candidates that the settings choose, best or newest first; of equals the earlier epoch is better."""
    if settings.choose == "ema":  # the optimiser has it
        return []
    count = settings.average if settings.choose.startswith("average") else 1
    if settings.choose in ("last", "average_last"):
        return sorted(candidates, key=lambda candidate: -candidate.epoch)[:count]
    return sorted(candidates, key=lambda candidate: (candidate.wer, candidate.epoch))[:count]


def choose_candidates(folder: Path, settings: TrainingConfig) -> list[Candidate]:
    """The candidates of a run's folder that the settings choose, best or newest first."""
    return _rank(list_candidates(folder), settings)


def write_chosen(draft: Path, chosen: Chosen) -> None:
    """Write what was chosen into a folder that takes its place afterwards."""
    (draft / CHOSEN_FILE).write_text(json.dumps(asdict(chosen)))
    sync_file(draft / CHOSEN_FILE)


def read_chosen(folder: Path) -> Chosen | None:
    """What was chosen in a run's folder, or None; a damaged file is a UserError."""
    path = folder / CHOSEN / CHOSEN_FILE
    return read_chosen_file(path) if path.is_file() else None


def read_chosen_file(path: Path) -> Chosen:
    """What a chosen.json says; a damaged one is a UserError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Chosen(**(content | {"epochs": tuple(content["epochs"])}))
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(f"{path}: is damaged ({' '.join(str(error).split())}); restore it, or train again") from None


def link_chosen(source: Path, target: Path) -> None:
    """Give another run's folder the chosen weights of a run; the files are shared where the file system allows it.

    Weights in an object store are not copied: both runs then have the same place there.
    """
    stored = read_weights_at(source)
    with replaced_folder(target / CHOSEN) as draft:
        for name in (WEIGHTS, CHOSEN_FILE) if stored is None else (CHOSEN_FILE,):
            link_file(source / CHOSEN / name, draft / name)
    if stored is not None:
        write_weights_at(target, replace(stored, shared=True))


def fetch_chosen(folder: Path) -> Path:
    """The folder on this machine that holds the chosen weights of a run, which has some."""
    store = find_store(folder)
    return folder / CHOSEN if store is None else store.fetch(CHOSEN)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `path` at the end of the block."""
    make_folders(path.parent)
    draft = path.with_name(f".draft-{path.name}-{os.getpid()}")
    for left in path.parent.glob(f".draft-{path.name}-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        draft.mkdir()
        yield draft
        sync_folder(draft)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(draft, path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, or where that is not possible its content."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        sync_file(target)


def candidate_folder(folder: Path, epoch: int) -> Path:
    return folder / CANDIDATES / f"epoch-{epoch:04d}"


def _epoch(path: Path) -> int:
    return int(path.name.removeprefix("epoch-"))


def place_beside(folder: Path, place: Path) -> Path:
    """Where small files belong that are kept beside the weights in `place`, which `find_run_weights` gave.

    Beside weights from an object store they would be lost with the copy of this machine.
    """
    return place if find_store(folder) is None else folder / place.name


def find_run_weights(folder: Path) -> Path | None:
    """The folder of a run's weights: the chosen ones, or while it trains its last checkpoint.

    A UserError where they were removed.
    """
    refuse_removed(folder)
    training = find_unchosen_checkpoint(folder)
    if training is None and (folder / CHOSEN / CHOSEN_FILE).is_file():
        return fetch_chosen(folder)
    return training


def refuse_removed(folder: Path) -> None:
    """A UserError where the weights of a run that has ended were removed from its folder."""
    try:
        reason = (folder / REMOVED_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return
    raise UserError(f"{folder}: {reason}; train its recipe.yaml again, or give another one")


def find_unchosen_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint of a run that has not come to its end: it may train again after it was stopped."""
    if (store := find_store(folder)) is not None:
        chosen = read_chosen(folder)
        return store.fetch_latest(CHECKPOINTS) if chosen is None or chosen.rule == STOPPED else None
    latest = latest_checkpoint(folder / CHECKPOINTS)
    chosen = read_chosen(folder) if latest is not None else None
    return latest if chosen is None or chosen.rule == STOPPED else None


def read_tokens_per_second(folder: Path, place: Path) -> float | None:
    """The bound on hypotheses that was learnt with the weights in `place`, which `find_run_weights` gave."""
    if place.name == CHOSEN:
        chosen = read_chosen(folder)
        return chosen.tokens_per_second if chosen else None
    value = json.loads((place / POSITION).read_text(encoding="utf-8")).get("tokens_per_second")
    return None if value is None else float(value)
