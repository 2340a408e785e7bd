"""A study's best model as a folder: complete, true to the ledger, and enough to train it again to the same figures."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from ledger_events import end_trial
from typer.testing import CliRunner, Result

import model
from model.corpora.corpus import Corpus
from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training.loop import train
from model.weights.model_folder import load_model_folder
from study.cli.main import app
from study.config.study_file import StudyFile
from study.execution.model_export import describe_numbers
from study.execution.reproduce import describe_environment, list_trainings, read_exported, reproduce_model
from study.ledger.events import Finalist, FinalistsChosen, TrialDecodingSearched
from study.ledger.ledger import Ledger
from study.ledger.manifest import make_manifest
from study.ledger.records import TrialState
from study.verdict.study_verdict import make_verdict
from study.verdict.words import describe_verdict

QUESTION = {"confirmation": {"seeds": 3}, "search": {"auxiliary": {"count": [0, 1]}}, "baselines": ["ed"]}
FILES = [
    *("README.md", "chosen.json", "decoding.yaml", "figures.json", "manifest.json", "model.safetensors"),
    *("recipe.yaml", "tokenizer.model", "verdict.json"),
]
KEEP_SEED = {"training.seed": 1000}


@pytest.fixture(scope="module")
def ledger(make_recipe: Callable[..., Recipe], corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """Trial 0 is trained and searched, and confirmed by 2, 3 and 4; trial 1, of the other class, by 5, 6 and 7.

    Their figures are invented but for those of trials 0 and 2.
    """
    folder = tmp_path_factory.mktemp("export") / "studies" / "probe"
    base = make_recipe({"decoding_search.share": 0.5, "training.epochs": 1})
    study = StudyFile.model_validate({"name": "probe", "corpus": str(corpus.folder), **QUESTION})
    ledger = Ledger.create_or_open(folder, study, base, make_manifest(study, base))
    auxiliary = {"loss.auxiliary.placement": [2], "loss.auxiliary.weights": [0.4]}
    _train_trial(ledger, 0, base)
    _end_invented(ledger, 1, with_values(base, auxiliary), 150.0)
    wer = ledger.trials[0].metrics["dev/wer_final"]
    finalists = (Finalist(number=1, recipe_class="decred", figure=150.0, of=1),)
    finalists += (Finalist(number=0, recipe_class="ed", figure=wer, of=1),)
    ledger.append(FinalistsChosen(metric="dev/wer_final", finalists=finalists, looks=2))
    _train_trial(ledger, 2, with_values(base, KEEP_SEED), confirms=0)
    for number, seed in ((3, 1001), (4, 1002)):
        _end_invented(ledger, number, with_values(base, {"training.seed": seed}), wer + number, confirms=0)
    for number, seed in ((5, 1000), (6, 1001), (7, 1002)):
        recipe = with_values(base, auxiliary | {"training.seed": seed})
        _end_invented(ledger, number, recipe, 150.0 + number, confirms=1)
    return ledger


def _train_trial(ledger: Ledger, number: int, recipe: Recipe, confirms: int | None = None) -> None:
    folder, reports = ledger.trial_folder(number), list[dict[str, float]]()
    ledger.start_trial(number, recipe, {"training.seed": recipe.training.seed}, None, confirms=confirms)
    train(recipe, folder, reports.append)
    found = json.loads((folder / "decoding.json").read_text())
    stages = tuple(found["stages"][:1])
    ledger.append(TrialDecodingSearched(number=number, decoding=found["decoding"], tried=(), stages=stages))
    end_trial(ledger, number, TrialState.COMPLETE, metrics=reports[-1])


def _end_invented(ledger: Ledger, number: int, recipe: Recipe, wer: float, confirms: int | None = None) -> None:
    ledger.start_trial(number, recipe, {"training.seed": recipe.training.seed}, None, confirms=confirms)
    tests = {f"test/{name}/wer": wer for name in ("test-in", "test-ood-text", "test-ood-voice")}
    stages = ledger.trials[0].decoding_stages
    metrics = {"dev/wer": wer, "dev/wer_final": wer}
    stages = tuple({**stage, "metrics": metrics} for stage in stages)
    decoding = recipe.decoding.model_dump(mode="json")
    ledger.append(TrialDecodingSearched(number=number, decoding=decoding, tried=(), stages=stages))
    end_trial(ledger, number, TrialState.COMPLETE, metrics=metrics | tests)


@pytest.fixture(scope="module")
def exported(ledger: Ledger) -> Path:
    """The study's model, by the command."""
    out = ledger.folder.parents[1] / "model"
    arguments = ["export", str(ledger.folder), "--best", str(out), "--trial", "0", "--license", "cc-by-4.0"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    recipe = ledger.trials[0].recipe_hash
    assert result.output.splitlines() == [
        f"trial 0000, recipe {recipe}, written to {out} with its tokenizer, decoding and card"
    ]
    return out


def test_the_folder_has_everything_and_decodes_as_the_trial(ledger: Ledger, exported: Path, corpus: Corpus) -> None:
    assert sorted(path.name for path in exported.iterdir()) == FILES
    paths = [entry.audio.file for entry in corpus.entries("dev")]
    trial = model.load_run(ledger.trial_folder(0))
    assert model.decode(model.load_run(exported), paths) == model.decode(trial, paths)
    assert load_model_folder(exported).recipe.hash == ledger.trials[0].recipe_hash


def test_figures_json_is_the_ledgers(ledger: Ledger, exported: Path) -> None:
    facts = json.loads((exported / "figures.json").read_text())
    record = ledger.trials[0]
    assert facts["training"]["metrics"] == {
        name: value for name, value in record.final_metrics.items() if math.isfinite(value)
    }
    assert facts["training"]["decoding"] == record.found_decoding
    assert [(one["trial"], one["seed"]) for one in facts["repeats"]] == [(2, 1000), (3, 1001), (4, 1002)]
    assert facts["workers"] == {"count": 1, "cpus": 1.0, "gpus": 0.0}
    assert facts["corpus"]["normaliser"] == "basic 1"
    assert 0.005 < sum(info["hours"] for info in facts["corpus"]["sets"].values() if info["role"] == "train") < 0.1


def test_verdict_json_has_the_words_and_the_numbers(ledger: Ledger, exported: Path) -> None:
    verdict = make_verdict(ledger.trials)
    assert verdict is not None
    content = json.loads((exported / "verdict.json").read_text())
    assert content["lines"] == describe_verdict(verdict)
    overall = content["verdict"]["figures"]["wer"]["overall"]
    assert overall["difference"] == pytest.approx(verdict.judged["wer"].overall.difference)
    assert content["verdict"]["seeds"] == [1000, 1001, 1002]
    card = (exported / "README.md").read_text()
    assert all(f"- {line}" in card for line in content["lines"])
    assert describe_numbers(None) is None


def test_an_unknown_interval_is_null(ledger: Ledger) -> None:
    verdict = make_verdict(ledger.trials)
    assert verdict is not None
    judged = verdict.judged["wer"]
    unknown = replace(judged, overall=replace(judged.overall, interval=(-math.inf, math.inf)))
    numbers = describe_numbers(replace(verdict, judged={"wer": unknown}))
    assert numbers is not None
    assert numbers["figures"]["wer"]["overall"]["interval"] == [None, None]


def test_the_manifest_has_versions_and_hashes_and_names_no_machine(ledger: Ledger, exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["packages"] == ledger.manifest["packages"]
    assert not {"host", "id"} & manifest.keys()
    assert manifest["files"]["model.safetensors"] != manifest["files"]["tokenizer.model"]
    folder = str(ledger.folder.parents[1])
    texts = {path: path.read_text() for path in exported.iterdir() if path.suffix not in (".safetensors", ".model")}
    assert [path for path, text in texts.items() if folder in text] == []


def test_the_card_says_what_it_was_trained_on_and_how_sure_its_figures_are(exported: Path) -> None:
    start, front, text = (exported / "README.md").read_text().split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert (start, metadata["license"]) == ("", "cc-by-4.0")
    results = metadata["model-index"][0]["results"]
    assert [result["dataset"]["config"] for result in results] == ["test-in", "test-ood-text", "test-ood-voice"]
    assert all("mean over 3 seeds" in result["metrics"][0]["name"] for result in results)
    assert "It is trial 0 of the study probe, one of 8 trials." in text


@pytest.fixture(scope="module")
def again(exported: Path) -> tuple[Path, Result]:
    """Where the exported model was trained again by the command, and what that printed."""
    out = exported.parent / "again"
    result = CliRunner().invoke(app, ["reproduce", str(exported), "--out", str(out)], catch_exceptions=False)
    return out, result


def test_the_same_machine_gives_the_same_figures_to_the_last_digit(exported: Path, again: tuple[Path, Result]) -> None:
    out, result = again
    lines = result.output.splitlines()
    assert result.exit_code == 0, result.output
    assert lines[0] == "versions and hardware are the same"
    assert lines[-1].startswith("same: WER on the mean of 3 test sets is ")
    assert lines[-1].endswith("of the same seed are equal to the last digit")
    ours, theirs = (place / "model.safetensors" for place in (exported, out / "seed-0000" / "chosen"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_figures_that_are_not_the_models_are_found_out(
    exported: Path, again: tuple[Path, Result], tmp_path: Path
) -> None:
    """The training is not made a second time: what has come to its end is scored again."""
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    shutil.copytree(again[0], tmp_path / "again")
    facts = json.loads((folder / "figures.json").read_text())
    for name in ("test-in", "test-ood-text", "test-ood-voice"):
        facts["training"]["metrics"][f"test/{name}/wer"] -= 20.0
    facts["repeats"] = []
    (folder / "figures.json").write_text(json.dumps(facts))
    corpus = read_exported(exported, None).recipe.data.corpus
    arguments = ["reproduce", str(folder), "--out", str(tmp_path / "again"), "--corpus", corpus]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 1
    assert "not the same: WER on the mean of 3 test sets is " in result.output.splitlines()[-1]
    assert "epoch 1/1" not in result.output


@pytest.mark.slow
def test_a_model_of_two_workers_is_trained_again_by_two(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    facts = json.loads((folder / "figures.json").read_text())
    facts["workers"]["count"] = 2
    (folder / "figures.json").write_text(json.dumps(facts))
    corpus = Path(read_exported(exported, None).recipe.data.corpus)
    threads = torch.get_num_threads()
    reproduce_model(folder, corpus, tmp_path / "again", 1, lambda line: None)
    last = json.loads((tmp_path / "again" / "seed-0000" / "metrics.jsonl").read_text().splitlines()[-1])
    for name in ("dev/ilm_perplexity", "dev/perplexity"):  # the same training, but for the order of its sums
        assert last[name] == pytest.approx(facts["training"]["metrics"][name], rel=1e-3)
    assert torch.get_num_threads() == threads
    assert not (tmp_path / "again" / "seed-0000" / ".rendezvous").exists()


@pytest.mark.slow
def test_a_model_is_registered_from_the_folder_that_was_written_or_from_none(
    ledger: Ledger, tmp_path: Path, empty_mlflow: Path
) -> None:
    shutil.copyfile(empty_mlflow, ledger.folder / "mlflow.db")
    arguments = ["export", str(ledger.folder), "--trial", "0", "--register", "probe-asr"]
    result = CliRunner().invoke(app, [*arguments, "--best", str(tmp_path / "m")], catch_exceptions=False)
    written, registered = result.output.splitlines()
    assert written.startswith("trial 0000, recipe ")
    assert registered.startswith("trial 0000 registered as version 1 of 'probe-asr', models:/probe-asr@best, at sqlite")
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.output.startswith("trial 0000 is registered already as version 1 of 'probe-asr', ")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == FILES


def test_seeds_beyond_the_studys_are_new(exported: Path) -> None:
    found = read_exported(exported, None)
    seeds = [training.seed for training in list_trainings(found, 6)]
    assert seeds == [0, 1000, 1001, 1002, 1003, 1004]
    assert [training.seed for training in list_trainings(found, 2)] == [0, 1000]


def test_what_differs_of_the_environment_is_said() -> None:
    manifest = make_manifest()
    assert describe_environment(manifest) == ["versions and hardware are the same"]
    other = manifest | {"packages": manifest["packages"] | {"torch": "2.0.0", "rich": "1.0"}, "python": "3.9.1"}
    (line,) = describe_environment(other)
    assert line.startswith(
        f"other than in the first training: torch {manifest['packages']['torch']} here, 2.0.0 there;"
    )
    assert "python" in line
    assert "rich" not in line
    assert describe_environment({"files": {}}) == ["the versions of the first training are not known"]


def test_a_folder_without_figures_or_corpus_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no exported model with its figures.json; write one with"):
        read_exported(tmp_path, None)
    moved = tmp_path / "a" / "b" / "c" / "moved"
    shutil.copytree(exported, moved)
    with pytest.raises(UserError, match=r"was trained on a corpus that is not at .*; give it with --corpus"):
        read_exported(moved, None)
    (moved / "figures.json").write_text("{}")
    with pytest.raises(UserError, match=r"figures.json: is damaged \('training'\); export the model again"):
        read_exported(moved, exported)


def test_a_single_run_is_exported_with_the_figures_that_it_printed(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    with Path("run/metrics.jsonl").open("w") as stream:
        train(make_recipe({"training.epochs": 1}), Path("run"), lambda one: print(json.dumps(one), file=stream))
    result = CliRunner().invoke(app, ["export", "run", "--format", "model"], catch_exceptions=False)
    assert result.output.startswith("run, recipe ")
    facts = json.loads(Path("best-model/figures.json").read_text())
    assert {"test/test-in/wer", "dev/wer_final"} <= facts["training"]["metrics"].keys()
    assert "It is a single training, of no study." in Path("best-model/README.md").read_text()
    result = CliRunner().invoke(app, ["export", "best-model", "--format", "published", "-o", "other"])
    assert result.output.endswith("written to other in the published layout\n"), result.output
