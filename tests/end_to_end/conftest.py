"""One Ray for all tests of this room, and study files whose training is a stub."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.connect import connected
from model.data.corpus import Corpus
from study.runner import Work

HERE = Path(__file__).parent
STUB = Work("stub_training:train", "stub_training:prepare")


@pytest.fixture(scope="session")
def stub() -> Work:
    """The stand-in for training, importable here and, through PYTHONPATH, in every process that is started."""
    sys.path.insert(0, str(HERE))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return STUB


@pytest.fixture(scope="session")
def ray_here(stub: Work) -> Iterator[None]:
    """An embedded Ray that lives as long as the tests."""
    with connected(cpus=2):
        yield


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
