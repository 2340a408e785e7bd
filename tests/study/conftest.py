"""A study with four ended trials, for what starts from one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ledger_events import end_trial, report_epoch

from model.corpora.corpus import Corpus
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training.prepare import prepare
from study.config.baselines import make_baseline
from study.config.places import study_folder
from study.config.study_file import make_base_recipe, read_study
from study.ledger.ledger import Ledger
from study.ledger.manifest import make_manifest
from study.ledger.records import TrialState
from study.search.space import Space

WriteStudy = Callable[..., Path]
AddTrial = Callable[..., None]


@pytest.fixture
def write_study(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteStudy:
    """Write NAME.yaml into the current folder, which is an empty one."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, **changes: Any) -> Path:
        content = {
            "name": name,
            "corpus": str(corpus.folder),
            "recipe": {"set": {"tokenizer.vocabulary": 40, "training.epochs": 3}},
            "search": {"ctc_weight": {"uniform": [0.1, 0.6]}},
            "trials": 8,
        }
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content | changes))
        return Path(f"{name}.yaml")

    return write


@pytest.fixture
def add_trial() -> AddTrial:
    """Record a trial with everything that it leaves, quickly."""

    def add(
        ledger: Ledger,
        number: int,
        recipe: Recipe,
        state: TrialState | None,
        wer: float,
        named: str | None = None,
        reason: str | None = None,
    ) -> None:
        space = Space(ledger.study.search, ledger.base_recipe)
        ledger.start_trial(number, recipe, space.describe_recipe(recipe), named, space.encode_or_none(recipe) or {})
        for epoch in (1, 2) if state is TrialState.PRUNED else (1, 2, 3):
            report_epoch(ledger, number, epoch, {"dev/wer": wer + 3 - epoch, "train/loss": 1.0})
        if state is not None:
            end_trial(ledger, number, state, reason, {"test/t/wer": wer + 9} if state is TrialState.COMPLETE else {})
        for name in ("checkpoints/epoch-0003/model.safetensors", "hypotheses/dev.jsonl"):
            path = ledger.trial_folder(number) / name
            path.parent.mkdir(parents=True)
            path.write_bytes(b"as it was left")

    return add


@pytest.fixture
def old(write_study: WriteStudy, add_trial: AddTrial) -> Ledger:
    """The study `old`: both baselines, one of them pruned, and two sampled trials."""
    study = read_study(write_study("old"))
    base = prepare(make_base_recipe(study))
    ledger = Ledger.create_or_open(study_folder(study), study, base, make_manifest(study, base))
    ledger.start_session()
    add_trial(ledger, 0, make_baseline("ed", base), TrialState.COMPLETE, 30.0, "ed")
    add_trial(ledger, 1, make_baseline("decred-paper", base), TrialState.PRUNED, 50.0, "decred-paper")
    add_trial(ledger, 2, with_values(base, {"loss.ctc_weight": 0.2}), TrialState.COMPLETE, 20.0)
    add_trial(ledger, 3, with_values(base, {"loss.ctc_weight": 0.5}), TrialState.COMPLETE, 25.0)
    return ledger
