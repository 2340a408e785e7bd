"""The memory of a study's own process as its trials end: a whole study of the stand-in for training, in a new process.

    python tests/memory_growth.py CORPUS FOLDER TRIALS EPOCHS

prints a JSON list of [trials that have ended, bytes]. The bytes are those of the process alone, without the pages that
it shares with others: Ray's object store is among these.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
SAMPLES = 20

Samples = list[tuple[int, int]]


def measure_growth(corpus: Path, folder: Path, trials: int, epochs: int, timeout: float) -> Samples:
    """Run such a study in `folder`, within `timeout` seconds."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(TESTS / "memory_growth.py"), str(corpus), str(folder), str(trials), str(epochs)]
    environment = os.environ | {"PYTHONPATH": path, "STUB_SECONDS": "0"}
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, timeout=timeout, stdout=subprocess.PIPE, text=True
    )
    samples: Samples = [(ended, size) for ended, size in json.loads(done.stdout.splitlines()[-1])]
    return samples


def growth_per_trial(samples: Samples) -> float:
    """Bytes a trial from the first quarter on, in which the process takes what it needs once."""
    first = samples[len(samples) // 4]
    return (samples[-1][1] - first[1]) / (samples[-1][0] - first[0])


def write_study(corpus: Path, folder: Path, trials: int, epochs: int) -> Path:
    """Trials of `epochs` epochs that no rule stops."""
    content = {
        "name": "long",
        "corpus": str(corpus),
        "recipe": {"base": "tiny", "set": {"training.epochs": epochs, "training.seed": 5}},
        "search": {"sampler": "random", "ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 2]}},
        "trials": trials,
        "baselines": [],
        "early_stopping": {"rule": "none"},
        "workers": {"count": 1, "cpus": 1, "concurrent_trials": 2},
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(content))  # YAML, too
    return path


def run(corpus: Path, folder: Path, trials: int, epochs: int) -> Samples:
    """Run the study in this process, with a look at its memory after every twentieth of its trials."""
    from rich.console import Console

    from study import runner

    samples: Samples = []

    class MeasuredBoard(runner.Board):
        ended = 0

        def update(self, record: Any) -> None:
            super().update(record)
            self.ended += record.state.final
            if record.state.final and self.ended % max(1, trials // SAMPLES) == 0:
                gc.collect()
                samples.append((self.ended, own_bytes()))

    runner.Board = MeasuredBoard  # type: ignore[misc]
    work = runner.Work("stub_training:train", "stub_training:prepare")
    with Path(os.devnull).open("w") as nothing:
        path = write_study(corpus, folder, trials, epochs)
        assert runner.run_study(path, console=Console(file=nothing), work=work) == 0
    return samples


def own_bytes() -> int:
    """The process's memory that is in RAM and belongs to no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
