"""Training on waveforms that are changed while they are read, by a thread or by processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training_runs import assert_same_weights, train_whole_and_first_epoch, without_clock

from model.data import reading
from model.training.loop import train

WAVEFORMS = {
    "augmentation.noise_share": 0.5,
    "augmentation.reverberation_share": 0.5,
    "augmentation.time_masks": 1,
    "training.epochs": 2,
    "data.batch_seconds": 7.0,
}


@pytest.fixture(scope="module", autouse=True)
def end_readers() -> Iterator[None]:
    """Processes that read end with the module."""
    yield
    reading._make_loader.cache_clear()


def test_processes_train_the_model_that_a_thread_does_and_go_on_after_a_stop(make_recipe, tmp_path: Path) -> None:
    thread, processes = (make_recipe(WAVEFORMS | {"data.readers": readers}) for readers in (0, 2))
    assert thread.hash == processes.hash
    reports: list[dict[str, float]] = []
    train(thread, tmp_path / "thread", reports.append)
    whole, parts = train_whole_and_first_epoch(processes, tmp_path)
    assert [without_clock(metrics) for metrics in whole] == [without_clock(metrics) for metrics in reports]
    assert_same_weights(tmp_path / "whole", tmp_path / "thread")
    torch.rand(3)
    train(processes, tmp_path / "parts", parts.append)
    assert_same_weights(tmp_path / "parts", tmp_path / "whole")


def test_changed_waveforms_train_another_model(make_recipe, tmp_path: Path) -> None:
    changed, plain = (
        make_recipe(WAVEFORMS),
        make_recipe(WAVEFORMS | {name: 0.0 for name in WAVEFORMS if "share" in name}),
    )
    assert changed.hash != plain.hash
    losses = []
    for recipe in (changed, plain):
        reports: list[dict[str, float]] = []
        train(recipe, tmp_path / recipe.hash, reports.append)
        losses.append(reports[0]["train/loss"])
    assert losses[0] != losses[1]
