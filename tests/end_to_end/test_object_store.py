"""A study whose checkpoints, weights and artifacts are in an object store: a real S3 server on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from chaos.study_process import CommandProcess
from object_stores import BUCKET, Gate, S3Server, use_server
from safetensors.torch import load_file
from typer.testing import CliRunner

from model.api import load_run
from model.errors import UserError
from model.training.loop import train
from model.weights import object_store
from model.weights.object_store import ObjectStore
from study.cli.main import app
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

pytestmark = pytest.mark.slow
TRIAL = Path("studies/probe/trials/0000")
COMMAND = [sys.executable, "-u", "-c", "from study.cli.main import main; main()"]
EPOCHS = 6
SMALL = {
    "training.epochs": EPOCHS,
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def gate(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The address under which this process and its children see the server."""
    use_server(server, monkeypatch)
    with Gate(server.port) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        yield gate


@pytest.fixture
def stored_study(study_in: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a study file whose store is a place of its own in the bucket."""

    def write(**settings: Any) -> Path:
        places = {name: f"s3://{BUCKET}/{tmp_path.name}/{name}" for name in ("checkpoints", "artifacts")}
        return study_in(
            recipe={"base": "tiny", "set": SMALL},
            trials=0,
            baselines=["decred-paper"],
            object_store=places | settings,
        )

    return write


class Machine:
    """A machine of which only the current folder and the store are shared with others."""

    def __init__(self, name: str) -> None:
        self.disk = Path(name).absolute()
        self.disk.mkdir()

    def start(self, *arguments: str) -> CommandProcess:
        # Ray's own files stay where they are: the paths of its sockets must be short.
        environment = {"TMPDIR": str(self.disk), "RAY_TMPDIR": "/tmp"}
        return CommandProcess([*COMMAND, *arguments], environment)


def list_copies(*folders: str) -> list[Path]:
    """The files of weights in these folders."""
    return [path for folder in folders for path in Path(folder).rglob("*.safetensors")]


@pytest.mark.timeout(600)
def test_a_study_that_was_killed_ends_on_another_machine_as_one_that_nothing_stopped(
    gate: Gate, stored_study: Callable[..., Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stored_study()
    store = ObjectStore(f"s3://{BUCKET}/{tmp_path.name}")

    run = Machine("one").start("run", "study.yaml")
    try:
        run.wait_for_output(f"epoch 3/{EPOCHS}")
        run.kill()
    finally:
        run.close()
    # Two checkpoints, and perhaps a third whose upload broke off, or which was not removed yet.
    place = json.loads((TRIAL / "weights_at.json").read_text())["url"].removeprefix(f"{store.url}/")
    epochs = {name.split("/")[0] for name in store.sizes(f"{place}/checkpoints")}
    assert 2 <= len(epochs) <= 3

    run = Machine("two").start("run", "study.yaml")
    try:
        assert run.wait_for_end() == 0, run.output
    finally:
        run.close()
    assert f"epoch 1/{EPOCHS}" not in run.output, "it started again instead of continuing"
    ledger = Ledger.open(Path("studies/probe"))
    _assert_as_undisturbed(ledger, tmp_path_factory.mktemp("undisturbed"))
    assert list_copies("one"), "the process that was killed had some"
    assert list_copies("studies", "two") == [], "weights are in the study's folder, or were left on a machine"
    assert {name.split("/")[0] for name in store.sizes(place)} == {"chosen"}
    assert store.sizes("artifacts"), "MLflow's files are in the store"
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    assert [path for path in Path("studies").rglob("*") if path.is_file() and secret in path.read_bytes()] == []


def _assert_as_undisturbed(ledger: Ledger, folder: Path) -> None:
    """The curve, the chosen weights and what is exported are those of a training that nothing stopped."""
    trial = ledger.trials[0]
    assert trial.state is TrialState.COMPLETE
    reports: list[dict[str, float]] = []
    train(ledger.read_recipe(trial), folder, reports.append)
    for name in ("dev/wer", "train/loss", "dev/ilm_perplexity"):
        assert list(trial.curve(name).values()) == [report[name] for report in reports[:-1]]
    result = CliRunner().invoke(app, ["export", "study.yaml", "--format", "published", "-o", "export"])
    assert result.exit_code == 0, result.output
    expected = load_run(folder).model.state_dict()
    state = load_run(TRIAL).model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in expected.items())
    assert len(load_file("export/model.safetensors")) >= len(expected) - 1
    result = CliRunner().invoke(app, ["evaluate", str(TRIAL)], catch_exceptions=False)
    assert f"dev: WER {trial.metrics['dev/wer']:.1f} %" in result.output


Change = Callable[[Gate, pytest.MonkeyPatch], object]
FAULTS: Sequence[tuple[dict[str, str], Change, str]] = [
    (
        {"checkpoints": "s3://bukket/a"},
        lambda gate, patch: None,
        r"s3://bukket/a: there is no bucket 'bukket'; make it, or correct the URL",
    ),
    (
        {},
        lambda gate, patch: patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong"),
        r"refuses the credentials .*; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        {},
        lambda gate, patch: gate.close(),
        r"has not answered for 1 s \(Could not connect.*\); start the store, or correct AWS_ENDPOINT_URL",
    ),
]


@pytest.mark.parametrize(("places", "change", "line"), FAULTS, ids=["bucket", "credentials", "endpoint"])
def test_a_store_that_cannot_be_used_is_one_line_before_anything_is_made(
    places: dict[str, str],
    change: Change,
    line: str,
    gate: Gate,
    stored_study: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_store, "CHECK_SECONDS", 1.0)
    path = stored_study(**{"artifacts": None} | places)
    change(gate, monkeypatch)
    for command in ("validate", "run"):
        with pytest.raises(UserError, match=line) as caught:
            CliRunner().invoke(app, [command, str(path)], catch_exceptions=False)
        assert "\n" not in str(caught.value)
        assert "s3://" in str(caught.value)
    assert not Path("studies").exists()
