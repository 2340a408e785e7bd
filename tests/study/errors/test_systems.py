"""Which systems a study, a run and files have; and the figures of a real training, as its ledger has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.corpora.corpus import Corpus
from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training.loop import train
from model.training.prepare import prepare
from study.config.places import study_folder
from study.config.study_file import make_base_recipe, read_study
from study.errors.content import Content
from study.errors.gathering import gather
from study.errors.summary import summarise_sets
from study.errors.systems import find_systems
from study.ledger.events import Finalist, FinalistsChosen, TrialEnded, TrialEpoch, TrialState
from study.ledger.ledger import Ledger
from study.ledger.manifest import make_manifest

WriteRun = Callable[..., Path]


@pytest.fixture
def ledger(study_in: Callable[..., Path]) -> Ledger:
    """A study without trials."""
    study = read_study(study_in())
    base = prepare(make_base_recipe(study))
    ledger = Ledger.create_or_open(study_folder(study), study, base, make_manifest(study, base))
    ledger.start_session()
    return ledger


def end(ledger: Ledger, number: int, metrics: dict[str, float]) -> None:
    ledger.append(TrialEpoch(number=number, epoch=1, metrics={"dev/wer": metrics["dev/wer"]}))
    ledger.append(TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics))


def test_the_figures_of_a_training_are_those_in_its_ledger_set_by_set(
    ledger: Ledger, make_recipe: Callable[..., Recipe], corpus: Corpus
) -> None:
    recipe = make_recipe({"training.epochs": 1, "decoding.beam": 2})  # not as in validation: dev is decoded again
    reports: list[dict[str, float]] = []
    ledger.start_trial(0, recipe, {}, "ed")
    train(recipe, ledger.trial_folder(0), reports.append)
    end(ledger, 0, reports[-1])
    (system,) = find_systems([ledger.folder])
    assert system.name == "trial 0, ed"
    content = gather([system])
    assert content.notes == ()
    recorded = ledger.trials[0].final_metrics
    groups = {group.name: group.systems[0] for group in summarise_sets(content)}
    names = {f"test/{name}/wer": name for name in corpus.set_names("test")}
    names["dev/wer_final"] = "dev, all"
    assert len(names) == 4
    for metric, name in names.items():
        assert groups[name].wer == recorded[metric], metric
    for part in (*corpus.set_names("test"), "dev"):
        file = ledger.trial_folder(0) / "hypotheses" / f"{part if part != 'dev' else 'dev-final'}.jsonl"
        words = [json.loads(line)["words"] for line in file.read_text().splitlines()]
        name = "dev, all" if part == "dev" else part
        assert list(groups[name].edits) == [sum(column) for column in zip(*words, strict=True)]
    assert_has_recordings(content, corpus)


def assert_has_recordings(content: Content, corpus: Corpus) -> None:
    entries = {
        entry.id: entry
        for name in (*corpus.set_names("test"), *corpus.set_names("dev"))
        for entry in corpus.entries(name)
    }
    assert {utterance.id for utterance in content.utterances} == entries.keys()
    for utterance in content.utterances:
        entry = entries[utterance.id]
        assert (utterance.audio, utterance.seconds) == (entry.audio, entry.samples / 16000)
        assert Path(entry.audio.file).is_file()


def add_trial(ledger: Ledger, number: int, wer: float, confirms: int | None = None, seed: int = 0) -> None:
    auxiliary = "ed" if number % 2 == 0 else "decred-paper"
    recipe = with_values(ledger.base_recipe, {"training.seed": seed})
    ledger.start_trial(
        number, recipe, {"training.seed": seed}, None if confirms is not None else auxiliary, confirms=confirms
    )
    end(ledger, number, {"dev/wer": wer, "dev/wer_final": wer})
    file = ledger.trial_folder(number) / "hypotheses" / "test-in.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"id": "u", "reference": "a", "hypothesis": str(number)}) + "\n")


def read_texts(*paths: Path, trials: Any = ()) -> dict[str, str]:
    return {system.name: system.parts["test-in"].hypotheses["u"].text for system in find_systems(paths, trials)}


def test_a_study_gives_its_best_trial_or_those_that_are_named(ledger: Ledger) -> None:
    for number, wer in enumerate((30.0, 20.0, 25.0)):
        add_trial(ledger, number, wer)
    assert read_texts(ledger.folder) == {"trial 1, decred-paper": "1"}
    assert read_texts(ledger.folder.parent.parent / "study.yaml") == {"trial 1, decred-paper": "1"}
    assert read_texts(ledger.folder, trials=[2, 0]) == {"trial 2, ed": "2", "trial 0, ed": "0"}
    with pytest.raises(UserError, match="study 'probe' has no trial 7; its trials: 0 to 2"):
        find_systems([ledger.folder], [7])
    with pytest.raises(UserError, match=r"--trial names trials of a study, but .*0001 has no studies; give one"):
        find_systems([ledger.trial_folder(1)], [1])


def test_once_finalists_are_confirmed_both_classes_stand_side_by_side_with_one_seed(ledger: Ledger) -> None:
    add_trial(ledger, 0, 21.0)
    add_trial(ledger, 1, 20.0)
    finalists = (
        Finalist(number=1, recipe_class="decred", figure=20.0, of=1),
        Finalist(number=0, recipe_class="ed", figure=21.0, of=1),
    )
    ledger.append(FinalistsChosen(metric="dev/wer_final", finalists=finalists, looks=2))
    for number, (confirms, seed) in enumerate([(0, 1000), (0, 1001), (1, 1001)], start=2):
        add_trial(ledger, number, 22.0, confirms, seed)
    names = [system.name for system in find_systems([ledger.folder])]
    assert [name.split(", ")[-1] for name in names] == ["finalist 1 with seed 1001", "finalist 0 with seed 1001"]
    assert [name.split(",")[0] for name in names] == ["trial 4", "trial 3"]


def test_a_run_whose_test_sets_were_not_scored_gives_what_evaluate_wrote(write_run: WriteRun) -> None:
    run = write_run("run", {"in-anna-1": "of the last epoch"}, part="dev")
    with pytest.raises(UserError, match="its test sets were not scored; give a baseline or the best trial, or use `ev"):
        find_systems([run])
    (run / "evaluation").mkdir()
    (run / "hypotheses" / "dev.jsonl").rename(run / "evaluation" / "test-in.jsonl")
    (run / "hypotheses" / "dev.jsonl").write_text((run / "evaluation" / "test-in.jsonl").read_text())
    assert list(find_systems([run])[0].parts) == ["test-in"]
    assert list(find_systems([run / "evaluation"])[0].parts) == ["test-in"]
