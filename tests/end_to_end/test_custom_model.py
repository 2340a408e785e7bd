"""A study of a user's own network: its sizes, CTC weight and classifiers are searched as those of the project's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

from model.api import load_run
from model.errors import UserError
from model.recipe.files import read_recipe
from model.strict import file_fingerprint
from study.cli.main import app
from study.execution.export import write_run_onnx
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.tracking.served_model import TranscriptionModel

TOY = Path(__file__).parents[1] / "toy_model.py"
RECIPE = {
    "custom_model.factory": "studied_toy:make",
    "custom_model.path": "networks",
    "custom_model.settings": {"width": 16},
    "decoder.layers": 2,
    "data.speeds": [1.0],
    "tokenizer.vocabulary": 40,
    "training.epochs": 1,
    "decoding_search.share": 0.0,
}
SEARCH = {
    "ctc_weight": {"uniform": [0.1, 0.6]},
    "auxiliary": {"count": [0, 1]},
    "recipe": {"custom_model.settings.width": {"integer": [8, 24]}},
}


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def test_a_study_searches_a_networks_settings_with_weight_and_placement(
    ray_here: None, study_in: Callable[..., Path]
) -> None:
    Path("networks").mkdir()
    shutil.copyfile(TOY, "networks/studied_toy.py")
    recipe = {"base": "tiny", "set": RECIPE}
    study = study_in(recipe=recipe, search=SEARCH, question="none", trials=2, baselines=["ed"])
    result = invoke("run", str(study))
    assert result.exit_code == 0, result.output
    ledger = Ledger.open(Path("studies/probe"))
    assert [trial.state for trial in ledger.trials.values()] == [TrialState.COMPLETE] * 3
    recipes = [ledger.read_recipe(trial) for trial in ledger.trials.values()]
    widths = [(recipe.custom_model.settings or {})["width"] for recipe in recipes]
    assert len(set(widths)) == 3
    assert all(8 <= width <= 24 for width in widths)
    assert {recipe.custom_model.fingerprint for recipe in recipes} == {file_fingerprint(TOY)}

    assert "complete" in invoke("status", str(study)).output
    assert invoke("export", str(study), "-o", "best.yaml").exit_code == 0
    assert read_recipe(Path("best.yaml")).hash in {recipe.hash for recipe in recipes}
    exported = invoke("export", str(study), "--best", "model")
    assert "with its tokenizer, decoding and card" in exported.output
    assert "the network of studied_toy:make" in Path("model/README.md").read_text()

    Path("networks/studied_toy.py").write_text(TOY.read_text() + "\n# another network\n")
    with pytest.raises(UserError, match=r"in use with another base recipe \(custom_model\.fingerprint was "):
        invoke("run", str(study))
    shutil.rmtree("networks")
    with pytest.raises(UserError, match=r"^model: its network is the Python code studied_toy:make of .* --trust-code"):
        invoke("reproduce", "model")
    with pytest.raises(UserError, match=r"^ONNX is for the project's own network, not for studied_toy:make; "):
        write_run_onnx(Path("model"), Path("onnx"))
    served = TranscriptionModel()
    served.load_context(SimpleNamespace(artifacts={"model": "model"}))
    assert served.predict(None, [[0.0] * 16_000])["error"].tolist() == [""]
    assert load_run("model", trust_code=True).recipe.custom_model.path == str(Path("model").resolve())
