"""A recipe with a network of the user's own is trained, scored, resumed and transcribed with as any other."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from training_runs import ALONE, assert_same_weights, read_chosen_weights, train_whole_and_first_epoch, without_clock
from typer.testing import CliRunner

from model.api import load_run, load_transcriber, perplexities, transcribe
from model.commands.app import make_app
from model.commands.evaluate import score_run
from model.corpora.corpus import Corpus
from model.errors import UserError
from model.evaluation.decoding_search import list_stages, search_decoding
from model.evaluation.scoring import load_dev_utterances
from model.onnx.export import export_onnx
from model.recipe.decoding import DecodingSearchConfig
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import file_fingerprint
from model.training.loop import train
from model.training.prepare import prepare
from model.weights.import_export import export_published
from model.weights.model_folder import load_model_folder, write_model_folder

TOY = Path(__file__).parents[2] / "toy_model.py"
VALUES: dict[str, Any] = {
    "custom_model.factory": "toy_model:make",
    "custom_model.path": str(TOY.parent),
    "custom_model.settings": {"width": 16},
    "decoder.layers": 2,
    "loss.auxiliary": {"placement": [1], "weights": [0.3]},
}


@pytest.fixture(scope="module")
def recipe(make_recipe) -> Recipe:
    return prepare(make_recipe(VALUES))


@pytest.fixture(scope="module")
def trained(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, float]]]:
    """A whole run, and one that was stopped in the report of its first epoch and then resumed, beside it."""
    folder = tmp_path_factory.mktemp("toy")
    whole, parts = train_whole_and_first_epoch(recipe, folder)
    train(recipe, folder / "parts", parts.append)
    # Its first epoch was reported when it was stopped, and again when it was resumed.
    assert [without_clock(report) for report in whole] == [without_clock(report) for report in parts[1:]]
    return folder, whole


def test_it_is_trained_and_scored_and_resumed_to_the_same_weights(trained: tuple[Path, list[dict[str, float]]]) -> None:
    folder, reports = trained
    assert_same_weights(folder / "whole", folder / "parts")
    assert {"train/loss_layer_1", "train/loss_ctc", "dev/wer", "dev/ilm_perplexity"} <= reports[0].keys()
    assert reports[1]["train/loss"] < reports[0]["train/loss"]
    assert reports[-1]["finished"] == 1.0
    assert "test/test-in/wer" in reports[-1]
    assert all(name.startswith("network.") for name in read_chosen_weights(folder / "whole"))


def test_the_recipe_is_that_of_this_content_of_the_file_wherever_it_lies(recipe: Recipe, tmp_path: Path) -> None:
    assert recipe.custom_model.fingerprint == file_fingerprint(TOY)
    shutil.copyfile(TOY, tmp_path / "toy_model.py")
    assert prepare(with_values(recipe, {"custom_model.path": str(tmp_path)})).hash == recipe.hash
    (tmp_path / "toy_model.py").write_text(TOY.read_text() + "\n# another file\n")
    with pytest.raises(UserError, match=r"'toy_model' is imported from .*, not from custom_model.path .*another name"):
        prepare(with_values(recipe, {"custom_model.path": str(tmp_path), "custom_model.fingerprint": None}))


def test_a_recording_is_transcribed_with_it_as_with_any_model(
    trained: tuple[Path, list[dict[str, float]]], corpus: Corpus
) -> None:
    run = load_run(trained[0] / "whole", trust_code=True)
    entry = next(iter(corpus.entries("dev")))
    (transcript,) = transcribe(run, corpus.read_samples(entry), 16_000, beam=2, ctc_weight=0.3)
    assert transcript.seconds == pytest.approx(entry.samples / 16_000)
    assert perplexities(run, ["turn on the light"])[0] > 1.0


def test_its_decoding_is_searched_with_mixed_classifiers_and_without_its_internal_lm(
    trained: tuple[Path, list[dict[str, float]]], corpus: Corpus
) -> None:
    run = load_run(trained[0] / "whole", trust_code=True)
    tokenizer, few = run.require_tokenizer(), {"ctc_weight": [0.3], "mixing": [0.5], "ilm_weight": [0.2], "beam": [2]}
    settings = DecodingSearchConfig.model_validate(few | {"length_penalty": []})
    dev = load_dev_utterances(corpus, tokenizer)
    done = search_decoding(run.model, dev, run.recipe.decoding, settings, tokenizer, ALONE, seconds=600.0)
    assert done.stages == list_stages(settings)
    tried = [one.decoding for one in done.tried]
    assert {one.mixing for one in tried} == {"none", (0.5, 0.5)}
    assert {one.ilm_weight for one in tried} == {0.0, 0.2}
    assert {one.beam for one in tried} >= {1, 2}


def test_its_model_folder_holds_its_module_and_needs_no_other_place(
    trained: tuple[Path, list[dict[str, float]]], recipe: Recipe, tmp_path: Path
) -> None:
    write_model_folder(trained[0] / "whole", recipe, tmp_path / "model")
    assert (tmp_path / "model/toy_model.py").read_bytes() == TOY.read_bytes()
    moved = (tmp_path / "model").rename(tmp_path / "moved")
    loaded = load_model_folder(moved, trust_code=True)
    assert loaded.recipe.custom_model.path == str(moved)
    assert loaded.recipe.hash == recipe.hash


@pytest.fixture
def strange(recipe: Recipe, trained: tuple[Path, list[dict[str, float]]], tmp_path: Path) -> tuple[Path, Path]:
    """A model folder that came with code of its own, and what that code makes where it is run."""
    write_model_folder(trained[0] / "whole", recipe, tmp_path / "strange")
    mark = tmp_path / "mark"
    (tmp_path / "strange/strange.py").write_text(f"from pathlib import Path\n\nPath({str(mark)!r}).touch()\n")
    text = (tmp_path / "strange/recipe.yaml").read_text().replace("toy_model:make", "strange:make")
    text = re.sub(r"fingerprint: ['\"]?[0-9a-f]{16}['\"]?\n", "fingerprint: null\n", text)
    (tmp_path / "strange/recipe.yaml").write_text(text)
    return tmp_path / "strange", mark


def test_no_code_of_a_model_is_run_before_somebody_has_agreed_to_it(strange: tuple[Path, Path]) -> None:
    folder, mark = strange
    words = rf"^{folder}: its network is the Python code strange:make of {folder}, which runs when .* --trust-code"
    speech = str(folder / "speech.wav")
    for command in (["transcribe", str(folder), speech], ["evaluate", str(folder)], ["mix", str(folder)]):
        with pytest.raises(UserError, match=words):
            CliRunner().invoke(make_app("model"), command, catch_exceptions=False)
    for load in (load_run, load_transcriber, load_model_folder):
        with pytest.raises(UserError, match=words):
            load(folder)
    assert not mark.exists()
    with pytest.raises(UserError, match="the module has no function 'make'"):
        load_run(folder, trust_code=True)
    assert mark.exists(), "the words are true"


def test_runs_are_asked_for_as_model_folders_are(trained: tuple[Path, list[dict[str, float]]]) -> None:
    with pytest.raises(UserError, match=rf"whole: its network is the Python code toy_model:make of {TOY.parent}, "):
        load_run(trained[0] / "whole")


def test_with_consent_a_command_loads_it(
    trained: tuple[Path, list[dict[str, float]]], recipe: Recipe, corpus: Corpus, tmp_path: Path
) -> None:
    write_model_folder(trained[0] / "whole", recipe, tmp_path / "model")
    entry = next(iter(corpus.entries("dev")))
    speech = str(corpus.folder / entry.audio.file)
    result = CliRunner().invoke(make_app("model"), ["transcribe", str(tmp_path / "model"), speech, "--trust-code"])
    assert result.exit_code == 0, result.output
    assert "1 recording, " in result.output


def test_its_internal_lm_has_no_other_estimators(trained: tuple[Path, list[dict[str, float]]]) -> None:
    words = "another estimator of the internal language model is for the project's own network, not for toy_model:make"
    with pytest.raises(UserError, match=words):
        score_run(trained[0] / "whole", estimators=True, trust_code=True)
    with pytest.raises(UserError, match=words):
        perplexities(load_run(trained[0] / "whole", trust_code=True), ["turn on the light"], "zeroed")


def test_what_only_the_projects_own_network_can_is_refused(
    trained: tuple[Path, list[dict[str, float]]], tmp_path: Path
) -> None:
    instead = "is for the project's own network, not for toy_model:make; export it as a model folder"
    with pytest.raises(UserError, match=f"^the published layout {instead}$"):
        export_published(trained[0] / "whole", tmp_path / "published")
    with pytest.raises(UserError, match=f"^ONNX {instead}$"):
        export_onnx(load_run(trained[0] / "whole", trust_code=True).model, b"", "toy", tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_the_toy_is_imported_from_its_own_folder(recipe: Recipe) -> None:
    assert Path(str(sys.modules["toy_model"].__file__)).samefile(TOY)
    assert recipe.custom_model.path == str(TOY.parent)
