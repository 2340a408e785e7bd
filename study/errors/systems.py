"""Which systems a command line names: those of a study, of a run's folder, or of a file with hypotheses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.errors import UserError
from model.strict import read_yaml
from study.config.places import study_folder
from study.config.search_settings import SEED
from study.config.study_file import read_study
from study.ledger.best import choose_trial
from study.ledger.ledger import RECIPE, STUDY, Ledger
from study.ledger.records import TrialRecord
from study.verdict.hypotheses import HypothesisSet, read_sets
from study.verdict.study_verdict import make_verdict

YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class FoundSystem:
    """A system with its hypotheses by file; `corpus` is the folder that they are of, where that is known."""

    name: str
    path: Path
    parts: Mapping[str, HypothesisSet]
    corpus: Path | None = None


def find_systems(paths: Sequence[Path], trials: Sequence[int] = ()) -> list[FoundSystem]:
    """The systems of all paths, in their order; a UserError where one has no hypotheses.

    Of a study they are the given trials. Without, it is one training of each class's confirmed finalist, both with the
    same seed, once a verdict has these, and before that the best trial.
    """
    studies = [path for path in paths if is_study(path)]
    if trials and len(studies) != 1:
        named = ", ".join(map(str, paths))
        raise UserError(f"--trial names trials of a study, but {named} has {len(studies) or 'no'} studies; give one")
    found: list[FoundSystem] = []
    for path in paths:
        found += _find_in_study(path, trials) if path in studies else [_find_run(path)]
    return found


def is_study(path: Path) -> bool:
    """Whether it is a study file, or the folder of a study."""
    return path.suffix in YAML or (path / STUDY).is_file()


def _find_in_study(path: Path, trials: Sequence[int]) -> list[FoundSystem]:
    ledger = Ledger.open(path if path.is_dir() else study_folder(read_study(path)))
    records = [choose_trial(ledger, number) for number in trials] or _choose_trials(ledger)
    systems = []
    for record in records:
        folder = ledger.trial_folder(record.number)
        systems.append(FoundSystem(describe_trial(record), folder, read_parts(folder), _find_corpus(folder)))
    return systems


def _choose_trials(ledger: Ledger) -> list[TrialRecord]:
    """A training of each class's best finalist, with the first seed that both have, or the best trial."""
    verdict = make_verdict(ledger.trials)
    if verdict is None or not verdict.seeds:
        return [choose_trial(ledger)]
    return [one.trainings[verdict.seeds[0]] for one in (verdict.first, verdict.second)]


def describe_trial(record: TrialRecord) -> str:
    """A trial in a few words: its number, baseline or class, and of a confirmation its finalist and seed."""
    kind = record.baseline or record.recipe_class
    name = f"trial {record.number}" + (f", {kind}" if kind else "")
    return name if record.confirms is None else f"{name}, finalist {record.confirms} with seed {record.values[SEED]}"


def _find_run(path: Path) -> FoundSystem:
    if not path.is_dir():
        return FoundSystem(path.stem, path, read_sets(path))
    folder = path.parent if path.name in ("hypotheses", "evaluation") else path
    return FoundSystem(path.resolve().name, path, read_parts(path), _find_corpus(folder))


def read_parts(folder: Path) -> dict[str, HypothesisSet]:
    """The hypotheses of a run by file: what its end has written, else what `evaluate` has."""
    evaluated = folder / "evaluation"
    try:
        return read_sets(folder)
    except UserError:
        if not any(evaluated.glob("*.jsonl")):
            raise
    return read_sets(evaluated)


def _find_corpus(folder: Path) -> Path | None:
    """The corpus that a run was trained on, as its recipe names it."""
    recipe = folder / RECIPE
    if not recipe.is_file():
        return None
    content = read_yaml(recipe)
    data = content.get("data") if isinstance(content, dict) else None
    corpus = data.get("corpus") if isinstance(data, dict) else None
    return Path(str(corpus)) if corpus else None
