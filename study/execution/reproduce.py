"""`reproduce`: an exported model is trained again, and its figures are compared with those that came with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.tokenizer import TOKENIZER_FILE
from model.errors import UserError
from model.network.making import refuse_untrusted
from model.recipe.files import read_recipe, with_values
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint
from model.weights.model_folder import RECIPE, is_model_folder
from study.display.model_card import Training
from study.execution.model_export import FIGURES, MANIFEST
from study.execution.retraining import choose_workers, train_again
from study.ledger.manifest import find_changes, make_manifest
from study.verdict.reproduction import Reproduction, compare_trainings, describe_reproduction

Print = Callable[[str], object]

# What figures can depend on; others may differ.
_COMPARED = ("decred-study", "torch", "torchaudio", "numpy", "lhotse", "sentencepiece", "soundfile", "jiwer")
_OTHER = ("python", "hardware.cpus", "hardware.gpus", "git.commit")


@dataclass(frozen=True)
class Exported:
    """What a model folder says of its training, and of those with other seeds."""

    recipe: Recipe
    training: Training
    repeats: tuple[Training, ...]
    workers: dict[str, float]
    seconds: float | None
    manifest: dict[str, Any]


def reproduce_model(
    folder: Path, corpus: Path | None, out: Path, seeds: int, print_line: Print, trust_code: bool = False
) -> Reproduction:
    """Train the model of a model folder again below `out`, with its own seed and then others, and compare.

    Seeds that the study had trained come first, then new ones. `print_line` gets what differs from the first training's
    environment, and in the end the answer. A UserError where the corpus is another one, the folder has no figures, or
    its network is a user's own, unless `trust_code` agrees to run its Python code.
    """
    exported = read_exported(folder, corpus)
    refuse_untrusted(exported.recipe, folder, trust_code)
    workers, threads = _describe_workers(exported, print_line)
    for line in describe_environment(exported.manifest):
        print_line(line)
    if exported.seconds:
        print_line(f"trains {seeds} x; the first training took {exported.seconds / 60:.0f} minutes")
    after = []
    for number, training in enumerate(list_trainings(exported, seeds)):
        run = out / f"seed-{training.seed:04d}"
        print_line(f"training {number + 1} of {seeds}, seed {training.seed}, in {run}")
        after.append(train_again(_make_recipe(exported.recipe, training), run, workers, threads))
        if number == 0:
            _compare_tokenizers(folder, run, print_line)
    before = [exported.training.metrics, *(one.metrics for one in exported.repeats)]
    found = compare_trainings(before, after)
    print_line(describe_reproduction(found))
    return found


def read_exported(folder: Path, corpus: Path | None) -> Exported:
    """What a model folder says, its recipe on the given corpus; a UserError where it cannot be reproduced from it."""
    path = folder / FIGURES
    if not is_model_folder(folder) or not path.is_file():
        raise UserError(
            f"{folder}: is no exported model with its {FIGURES}; write one with `decred-study export STUDY --best DIR`"
        )
    recipe = read_recipe(folder / RECIPE)
    if corpus is not None:
        recipe = with_values(recipe, {"data.corpus": str(corpus.resolve())})
    if not Path(recipe.data.corpus).is_dir():
        raise UserError(f"{folder}: was trained on a corpus that is not at {recipe.data.corpus}; give it with --corpus")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        trainings = [Training(**one) for one in (facts["training"], *facts["repeats"])]
        own, *repeats = trainings
        return Exported(recipe, own, tuple(repeats), facts["workers"], facts["seconds"], manifest)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{path}: is damaged ({' '.join(str(error).split())}); export the model again") from None


def list_trainings(exported: Exported, seeds: int) -> list[Training]:
    """What to train: the model's own seed, then the study's other ones, then seeds that it never had."""
    known = [exported.training, *exported.repeats]
    highest = max(training.seed for training in known)
    own = exported.training
    more = [
        Training(None, highest + number, own.recipe_hash, own.decoding, {})
        for number in range(1, seeds - len(known) + 1)
    ]
    return [*known, *more][:seeds]


def _make_recipe(recipe: Recipe, training: Training) -> Recipe:
    """With the training's seed, and decoded as was found then: a search takes what time allows, and differs."""
    from model.training.prepare import prepare

    values = {"training.seed": training.seed, "decoding": training.decoding, "decoding_search.share": 0.0}
    return prepare(with_values(recipe, values))


def _describe_workers(exported: Exported, print_line: Print) -> tuple[int, int]:
    """The workers and their threads here; a line where they are others than there."""
    asked = int(exported.workers.get("count", 1))
    workers = choose_workers(asked)
    if workers != asked:
        print_line(f"trained by {workers} workers here, {asked} there: sums are in another order")
    return workers, max(1, int(exported.workers.get("cpus", 1)))


def describe_environment(manifest: dict[str, Any]) -> list[str]:
    """A line with the versions and hardware that differ from those of the first training, or that none does."""
    if not manifest.get("packages"):
        return ["the versions of the first training are not known"]
    changes = find_changes(manifest, make_manifest())
    names = [*(f"packages.{name}" for name in _COMPARED), *_OTHER]
    parts = [
        f"{name.split('.')[-1]} {changes[name][1]} here, {changes[name][0]} there" for name in names if name in changes
    ]
    return [f"other than in the first training: {'; '.join(parts)}" if parts else "versions and hardware are the same"]


def _compare_tokenizers(folder: Path, run: Path, print_line: Print) -> None:
    there, here = (file_fingerprint(place / TOKENIZER_FILE) for place in (folder, run))
    if there != here:
        print_line(f"the corpus gives another tokenizer here ({here}) than there ({there}): its versions differ")
