"""A study with the real recogniser, from the command line to a recipe that trains again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ray_head import wait_until
from typer.testing import CliRunner

from model.recipe.files import read_recipe
from study.cli.main import app
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

SMALL = {
    "training.epochs": 2,
    "tokenizer.vocabulary": 40,
    "data.speeds": [1.0],
    "encoder.layers": 1,
    "encoder.width": 16,
    "encoder.heads": 2,
    "encoder.feed_forward": 16,
    "encoder.cgmlp": 16,
    "encoder.channels": 4,
    "decoder.layers": 3,
    "decoder.width": 16,
    "decoder.heads": 2,
    "decoder.feed_forward": 16,
}


@pytest.mark.slow
def test_a_study_trains_scores_exports_and_its_recipe_trains_again(
    ray_here: None, study_in: Callable[..., Path]
) -> None:
    study = study_in(
        recipe={"base": "tiny", "set": SMALL}, trials=0, baselines=["decred-paper"], workers={"count": 2, "cpus": 1}
    )
    result = CliRunner().invoke(app, ["run", str(study)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    trial = Ledger.open(Path("studies/probe")).trials[0]
    assert trial.state is TrialState.COMPLETE
    assert len(trial.epochs) == 2
    assert {"dev/wer", "dev/ilm_perplexity", "in_domain/wer", "out_of_domain/wer"} <= trial.metrics.keys()
    assert min(trial.metrics["dev/rtf"], trial.metrics["dev/rtf_final"]) > 0, "measured by two workers"

    result = CliRunner().invoke(app, ["status", str(study)], catch_exceptions=False)
    assert "complete" in result.output
    result = CliRunner().invoke(app, ["export", str(study), "-o", "best.yaml"], catch_exceptions=False)
    assert read_recipe(Path("best.yaml")).hash == trial.recipe_hash
    result = CliRunner().invoke(app, ["train", "best.yaml", "--out", "runs/best"], catch_exceptions=False)
    assert "epoch 2/2" in result.output
    result = CliRunner().invoke(app, ["evaluate", "studies/probe/trials/0000"], catch_exceptions=False)
    wer, perplexity = trial.metrics["dev/wer"], trial.metrics["dev/ilm_perplexity"]
    assert result.output.splitlines()[0] == f"dev: WER {wer:.1f} %  ILM perplexity {perplexity:.1f}"


@pytest.mark.slow
def test_a_study_whose_waveforms_change_reads_in_processes_that_end_with_it(
    ray_here: None, study_in: Callable[..., Path]
) -> None:
    waveforms = {"augmentation.noise_share": 0.5, "augmentation.reverberation_share": 0.5, "data.readers": 2}
    study = study_in(recipe={"base": "tiny", "set": SMALL | waveforms}, trials=1, workers={"count": 2, "cpus": 1})
    seen: set[int] = set()
    stop = threading.Event()
    watcher = threading.Thread(
        target=lambda: [seen.update(_list_readers()) for _ in iter(lambda: stop.wait(0.5), True)]
    )
    watcher.start()
    result = CliRunner().invoke(app, ["run", str(study)], catch_exceptions=False)
    stop.set()
    watcher.join()
    assert result.exit_code == 0, result.output
    assert len(seen) >= 2 * 2, "two processes of each worker read"
    trials = Ledger.open(Path("studies/probe")).trials
    assert [trial.state for trial in trials.values()] == [TrialState.COMPLETE] * 2
    assert all(trial.curve("train/wait_seconds") for trial in trials.values())
    assert not list(Path("studies").rglob("broken-batch*"))
    assert wait_until(lambda: not _list_readers(), 20), "a process that reads is left"


def _watch_readers(stop: threading.Event, seen: set[int]) -> None:
    while not stop.wait(0.5):
        seen.update(_list_readers())


def _list_readers() -> list[int]:
    """Processes of multiprocessing's fork server that a worker of Ray started, where torch's DataLoader reads."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            is_forked = b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes()
            if is_forked and b"RAY_RAYLET_PID=" in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found
