"""Files that are cut, pickled or missing are refused in one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from model.weights.published.checkpoint import load_pretrained


@pytest.mark.parametrize("kept", [0, 4, 1000, 60_000, 2_061_223])
def test_a_truncated_file_is_refused(folder: Path, kept: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"model\.safetensors: is no whole safetensors file \(.+\); copy it again"):
        load_pretrained(folder)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


def test_pickled_weights_are_refused_and_never_unpickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: is missing; give a folder with config\.json and"):
        load_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=r"pytorch_model\.bin: holds pickled weights, .+ are never read; save them as"):
        load_pretrained(folder)
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    with pytest.raises(UserError, match="is no whole safetensors file"):
        load_pretrained(folder)


def test_a_folder_without_a_config_or_with_a_broken_one_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"encoder": ')
    with pytest.raises(UserError, match=r"config\.json: is not valid JSON \(.+\); copy it again"):
        load_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json: cannot be read \(No such file or directory\); give a folder"):
        load_pretrained(folder)
