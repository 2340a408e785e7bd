"""Processes of a trial that hang while they start: its driver, and one of its workers."""

from __future__ import annotations

import time
from pathlib import Path

import torch.distributed as dist
from hanging_training import FOR_EVER, hangs_now

from study.workers import trainer
from study.workers.driver import TRIAL, TrialDriver

HANGS_EACH_TIME = "hangs-each-time"  # a file beside the trials' folders


class DriverThatHangs(TrialDriver):
    """A trial's driver whose start never ends: the first one of a trial, or where HANGS_EACH_TIME is there all."""

    def setup(self, config: dict) -> None:
        folder = Path(config[TRIAL].task.folder)
        if (folder.parent / HANGS_EACH_TIME).exists() or hangs_now(folder):
            time.sleep(FOR_EVER)
        super().setup(config)


_serve_driver = trainer.serve_driver


def serve_but_rank_1(config: dict) -> None:
    """A worker of a group, of which the second hangs before it connects to its driver."""
    if dist.get_rank() == 1:
        time.sleep(FOR_EVER)
    _serve_driver(config)
