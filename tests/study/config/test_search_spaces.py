"""Every study file in search_spaces/, and the one in the README, is valid and can run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from study.config.baselines import check_baselines
from study.config.study_file import make_base_recipe, read_study
from study.execution.checks import check_space
from study.search.space import Space

FOLDER = Path(__file__).parents[3] / "search_spaces"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_study_file_and_its_space_are_valid_and_contain_its_baselines(path: Path) -> None:
    study = read_study(path)
    base = make_base_recipe(study)
    space = Space(study.search, base)
    for name, recipe in check_baselines(study.baselines, base).items():
        assert space.encode_or_none(recipe) is not None, f"the sampler cannot learn from {name}"


def test_the_documented_studies_exist() -> None:
    assert {"demo", "prompts", "decred_small", "decred_base"} <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_study_stops_trials_without_evidence(path: Path) -> None:
    assert read_study(path).early_stopping.rule == "evidence"


def test_the_demo_tries_both_baselines_and_two_more_of_each_class_each_on_one_core() -> None:
    demo = read_study(FOLDER / "demo.yaml")
    assert demo.baselines == ("ed", "decred-paper")
    assert demo.trials == 4
    assert check_space(demo).confirmations == 6
    assert (demo.workers.count, demo.workers.cpus, demo.workers.gpus) == (1, 1, 0)


def test_the_study_file_in_the_readme_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(name: .*?)```", (FOLDER.parent / "README.md").read_text(), re.DOTALL)
    (tmp_path / "study.yaml").write_text(block)
    assert check_space(read_study(tmp_path / "study.yaml")).proposals == 10
