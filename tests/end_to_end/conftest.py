"""Study files whose training is a stub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.data.corpus import Corpus


@pytest.fixture
def study_in(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a study file into an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def write(**changes: Any) -> Path:
        study: dict[str, Any] = {
            "name": "probe",
            "corpus": str(corpus.folder),
            "recipe": {"base": "tiny", "set": {"training.epochs": 4, "training.seed": 0}},
            "search": {"ctc_weight": {"uniform": [0.1, 0.6]}},
            "trials": 1,
            "baselines": ["ed"],
            "early_stopping": {"grace_epochs": 1, "reduction": 2},
            "workers": {"count": 1, "cpus": 1},
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(study | changes))
        return path

    return write
