"""Studies from Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import study
from model.errors import UserError
from study.ledger.records import TrialState

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of twelve trials whose driver was killed."""
    return Path(shutil.copytree(GOLDEN / "study_format_2", tmp_path / "studies" / "old"))


def test_the_public_names_are_these_and_nothing_else() -> None:
    assert study.__all__ == ["OpenedStudy", "TrialRecord", "TrialState", "open_study", "run_study"]
    assert all(getattr(study, name).__doc__ for name in study.__all__)
    with pytest.raises(AttributeError, match="module 'study' has no attribute 'opne_study'; it has: OpenedStudy"):
        study.opne_study  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "('ray', 'torch', 'mlflow', 'optuna', 'pandas')"
    code = f"import sys, study; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_study_is_opened_by_its_folder_or_its_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_folder = study.open_study(str(folder))
    assert by_folder.file.name == "old"
    assert by_folder.best is not None
    assert by_folder.best.state is TrialState.COMPLETE
    assert by_folder.read_recipe().loss.ctc_weight == pytest.approx(by_folder.best.values["ctc_weight"], rel=1e-3)
    content = yaml.safe_load((folder / "study.yaml").read_text())
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(content))
    assert dict(study.open_study("old.yaml").trials) == dict(by_folder.trials)


def test_a_study_has_a_front_where_its_file_names_a_second_objective(folder: Path) -> None:
    assert study.open_study(folder).front is None
    path = folder / "study.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content | {"objective": content["objective"] | {"second": "dev/ilm_perplexity"}}))
    opened = study.open_study(folder)
    assert opened.front is not None
    assert opened.best is not None
    assert opened.front.trials[0].number == opened.best.number, "the best one has the lowest first figure"
    assert all(opened.trials[one.number].state is TrialState.COMPLETE for one in opened.front.trials)


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study; give the folder of a study"):
        study.open_study(tmp_path)


def test_a_table_has_a_row_a_trial_with_its_values_and_metrics(folder: Path) -> None:
    opened = study.open_study(folder)
    table = opened.to_pandas()
    assert list(table.index) == list(opened.trials)
    assert table.loc[0, "baseline"] == "ed"
    for number, record in opened.trials.items():
        assert table.loc[number, "state"] == record.state.value
        assert table.loc[number, "values/ctc_weight"] == record.values["ctc_weight"]
        if "dev/wer" in record.metrics:
            assert table.loc[number, "dev/wer"] == record.metrics["dev/wer"]


def test_curves_have_a_row_an_epoch(folder: Path) -> None:
    opened = study.open_study(folder)
    curves = opened.curves_to_pandas()
    assert len(curves) == sum(len(record.epochs) for record in opened.trials.values())
    assert dict(curves.loc[0]["dev/wer"]) == opened.trials[0].curve("dev/wer")


def test_a_study_without_trials_has_empty_tables(folder: Path) -> None:
    shutil.rmtree(folder / "events")
    opened = study.open_study(folder)
    assert opened.best is None
    assert len(opened.to_pandas()) == len(opened.curves_to_pandas()) == 0
