from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from training_runs import ALONE

from model.network.recogniser import Recogniser
from model.runtime.distributed import DistributedContext
from model.training.kept_parts import keep, make_key, read_kept
from model.training.loop import choose_accumulation
from model.training.run import start_or_resume

CPU = torch.device("cpu")
whole_forward = Recogniser.forward


@pytest.fixture
def choose(make_recipe, tmp_path: Path, monkeypatch):
    """Choose the parts of a new run where so many padded frames fit at once; the parts, and the number of tries."""

    def choose(frames: int, values: dict | None = None, file: Path = tmp_path / "parts.json") -> tuple[tuple, int]:
        tried = []

        def forward(self, features, *others):
            tried.append(features.shape)
            if features.shape[0] * features.shape[1] > frames:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole_forward(self, features, *others)

        run = start_or_resume(make_recipe(values), tmp_path / f"run-{len(list(tmp_path.iterdir()))}", ALONE)
        monkeypatch.setattr(Recogniser, "forward", forward)
        choose_accumulation(run, file)
        return run.parts, len(tried)

    return choose


def test_what_one_trial_found_another_one_tries_once(choose, tmp_path: Path) -> None:
    parts, tried = choose(600)
    assert max(parts) > 1
    assert tried > 1
    other = {"optimiser.learning_rate": 1e-4, "loss.ctc_weight": 0.1, "training.seed": 7, "training.epochs": 9}
    assert choose(600, other) == (parts, 1)
    assert len(json.loads((tmp_path / "parts.json").read_text())) == 1


def test_a_trial_that_needs_other_memory_is_measured_and_kept_beside(choose, tmp_path: Path) -> None:
    _, tried = choose(600)
    auxiliary = {"loss.auxiliary.placement": [2], "loss.auxiliary.weights": [0.4]}
    assert choose(600, auxiliary)[1] == tried > 1
    assert choose(600, auxiliary)[1] == choose(600)[1] == 1
    assert len(json.loads((tmp_path / "parts.json").read_text())) == 2


def test_what_no_longer_fits_is_measured_anew(choose) -> None:
    parts, _ = choose(600)
    fewer, tried = choose(300)
    assert max(fewer) > max(parts)
    assert tried > 1
    assert choose(300) == (fewer, 1)


def test_where_all_fits_nothing_is_kept(choose, tmp_path: Path) -> None:
    parts, tried = choose(10**9)
    assert (set(parts), tried) == ({1}, 1)
    assert not (tmp_path / "parts.json").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"KEY": 3}', '{"KEY": ["two"]}', '{"KEY": null}'])
def test_a_damaged_file_counts_as_none_and_is_replaced(choose, make_recipe, tmp_path: Path, content: str) -> None:
    file = tmp_path / "parts.json"
    file.write_text(content.replace("KEY", make_key(make_recipe(), ALONE)))
    parts, tried = choose(600)
    assert tried > 1
    assert choose(600) == (parts, 1)


def test_a_file_that_cannot_be_written_is_no_error(choose, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    parts, tried = choose(600, file=tmp_path / "file" / "parts.json")
    assert choose(600, file=tmp_path / "file" / "parts.json") == (parts, tried)


@pytest.mark.parametrize(
    "values",
    [{"encoder.width": 32}, {"data.batch_seconds": 30.0}, {"training.precision": "bf16"}, {"tokenizer.vocabulary": 41}],
)
def test_the_key_differs_where_memory_does(make_recipe, values: dict) -> None:
    assert make_key(make_recipe(values), ALONE) != make_key(make_recipe(), ALONE)
    assert make_key(make_recipe(), DistributedContext(0, 2, CPU)) != make_key(make_recipe(), ALONE)


def test_other_keys_of_the_file_stay(tmp_path: Path) -> None:
    for key, parts in (("a", (1, 2)), ("b", (4, 4)), ("a", (2, 2))):
        keep(tmp_path / "parts.json", key, parts)
    assert [read_kept(tmp_path / "parts.json", key, ALONE) for key in "abc"] == [(2, 2), (4, 4), None]
