"""What the recipe of a study file learns, on the demo and on recorded speech, beside the settings of version 0.2.

Both are trained by the code as it is, one after the other, each alone on one core with seed 0.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.corpora.demo.build import make_demo
from model.corpora.preparation import Preparation, prepare_corpus
from model.corpora.sources.asterisk import SOUNDS, TRANSCRIPTS
from model.corpora.sources.asterisk import main as print_prompts
from model.corpora.sources.table import read_table
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.training.loop import train
from model.training.prepare import prepare
from study.config.study_file import make_base_recipe, read_study

SEARCH_SPACES = Path(__file__).parents[2] / "search_spaces"
TITLE = "learning curves: % WER"
HEADER = ("corpus", "settings", "dev after each epoch", "greedy CTC", "dev, final decoding", "test sets", "s")

# The recipe tiny in version 0.2.
BEFORE: dict[str, Any] = {
    "data.batch_seconds": 14.0,
    "data.speeds": [1.0],
    "encoder.dropout": 0.0,
    "decoder.dropout": 0.05,
    "loss.ctc_weight": 0.3,
    "optimiser.learning_rate": 3e-3,
    "optimiser.warmup_steps": 80,
    "optimiser.clip_norm": 5.0,
    "validation.ctc_weight": 0.3,
    "validation.tokens_per_second": "none",
    "decoding.ctc_weight": 0.3,
    "training.choose": "last",
}
EPOCHS_BEFORE = {"demo": 6, "prompts": 12}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a corpus by its name, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("corpora")

    def make(name: str, capsys: pytest.CaptureFixture[str]) -> Path:
        if (folder / name).is_dir():
            return folder / name
        if name == "demo":
            return make_demo(folder / name).folder
        if not (SOUNDS.is_dir() and TRANSCRIPTS.is_file()):
            pytest.skip("the recorded prompts are not installed: apt-get install the two packages the README names")
        print_prompts()
        (folder / "prompts.tsv").write_text(capsys.readouterr().out)
        return prepare_corpus(read_table(folder / "prompts.tsv"), folder / name, Preparation()).corpus.folder

    return make


def train_curve(recipe: Recipe, folder: Path) -> tuple[list[dict[str, float]], dict[str, float]]:
    """The reports of the epochs, and the one that follows them."""
    reports: list[dict[str, float]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(recipe, folder, reports.append)
    finally:
        torch.set_num_threads(threads)
    return reports[:-1], reports[-1]


@pytest.fixture(scope="module")
def finals() -> dict[tuple[str, str], float]:
    """Final dev/wer of each corpus and settings."""
    return {}


# Before comes first: the test after it compares the two.
@pytest.mark.speed
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("label", ["before", "after"])
@pytest.mark.parametrize("name", ["demo", "prompts"])
def test_the_recipes_of_the_study_files_learn_more_than_those_of_version_0_2(
    corpora, finals: dict[tuple[str, str], float], name: str, label: str, tmp_path: Path, capsys, add_row
) -> None:
    values = {"data.corpus": str(corpora(name, capsys))}
    recipe = with_values(make_base_recipe(read_study(SEARCH_SPACES / f"{name}.yaml")), values)
    if label == "before":
        recipe = with_values(recipe, BEFORE | {"training.epochs": EPOCHS_BEFORE[name]})
    epochs, last = train_curve(prepare(recipe), tmp_path / label)
    tests = [f"{key.split('/')[1]} {value:.1f}" for key, value in sorted(last.items()) if is_test_wer(key)]
    curve = " ".join(f"{metrics['dev/wer']:.0f}" for metrics in epochs)
    seconds = sum(metrics["train/seconds"] + metrics["dev/seconds"] for metrics in epochs)
    figures = f"{last['dev/ctc_wer']:.1f}", f"{last['dev/wer_final']:.1f}", ", ".join(tests), f"{seconds:.0f}"
    add_row(TITLE, HEADER, (name, label, curve, *figures))
    finals[name, label] = last["dev/wer"]
    if (name, "before") in finals and label == "after":
        assert finals[name, "after"] < finals[name, "before"] - 10.0


def is_test_wer(name: str) -> bool:
    return name.startswith("test/") and name.endswith("/wer")
