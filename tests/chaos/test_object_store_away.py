"""An object store that stops answering while a study trains stops the study, as a full disk does; nothing is lost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos.epoch_order import assert_trained_once
from chaos.study_process import CommandProcess
from object_stores import BUCKET, Gate, S3Server, use_server

from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

COMMAND = [sys.executable, "-u", "-c", "from study.cli.main import main; main()", "run", "study.yaml"]
SIZES = {
    "training.epochs": 8,
    "tokenizer.vocabulary": 40,
    "data.speeds": [1.0],
    **dict.fromkeys(("encoder.layers", "encoder.channels"), 1),
    **dict.fromkeys(("encoder.width", "encoder.feed_forward", "encoder.cgmlp"), 16),
    **{"encoder.heads": 2, "decoder.heads": 2, "decoder.layers": 3, "decoder.width": 16, "decoder.feed_forward": 16},
}


@pytest.mark.chaos
def test_an_outage_stops_a_study_with_one_line_and_it_continues_from_its_last_checkpoint(
    study_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    use_server(server, monkeypatch)
    study_in(
        recipe={"base": "tiny", "set": SIZES},
        trials=0,
        baselines=["decred-paper"],
        object_store={"checkpoints": f"s3://{BUCKET}/studies", "wait_seconds": 1.0},
    )
    try:
        server.start()
        with Gate(server.port) as gate:
            monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
            first, printed = _run(lambda run: (run.wait_for_output("epoch 2/8"), gate.close()))
            assert first == 1, printed
            assert "s3://bucket/studies/probe-" in printed
            assert "has not answered for 1 s" in printed
            assert "then continue with: decred-study run study.yaml" in printed
            assert "Traceback" not in printed
            assert Ledger.open(Path("studies/probe")).trials[0].state is TrialState.INTERRUPTED
            gate.open()
            second, printed = _run(lambda run: None)
            assert second == 0, printed
            assert "epoch 1/8" not in printed, "it started again instead of continuing"
    finally:
        server.stop()
    ledger = Ledger.open(Path("studies/probe"))
    assert ledger.trials[0].state is TrialState.COMPLETE
    assert_trained_once(ledger.log.read())


def _run(disturb: Callable[[CommandProcess], object]) -> tuple[int, str]:
    """Run the study in a process of its own, with what happens meanwhile; its exit code and what it printed."""
    run = CommandProcess(COMMAND)
    try:
        disturb(run)
        return run.wait_for_end(), run.output
    finally:
        run.close()
