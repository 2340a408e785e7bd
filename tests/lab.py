"""A cluster of three hosts and a user's laptop, in namespaces, brought up by the project's own commands.

Head and workers have a shared folder and disks of their own; trials of two workers span two hosts, since each has one
CPU and the head none.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hosts import PRIVATE, Host, make_hosts, user_environment

from model.corpora.corpus import Corpus
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord, TrialState

SMALL = {
    "name": "small",
    "data": {"corpus": "nowhere", "speeds": [1.0]},
    "tokenizer": {"vocabulary": 40},
    "training": {"epochs": 3},
    "decoding_search": {"share": 0.0},
    "encoder": {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "cgmlp": 16, "channels": 2},
    "decoder": {"layers": 2, "width": 16, "heads": 2, "feed_forward": 16},
}
CORPORA_HERE = "/home/me/corpora"  # where the laptop would have corpora; the profile says where the cluster has them
WAIT_SECONDS = 240.0
RAYLET = "/raylet/raylet "  # of a command line: others name it in an option


@dataclass
class Lab:
    """The hosts, the laptop's user, and the storage that the cluster's machines share."""

    hosts: dict[str, Host]
    folder: Path
    env: dict[str, str]

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    def command(self, *words: str, code: int = 0, seconds: float = WAIT_SECONDS, cwd: Path | None = None) -> str:
        """What `decred-study` prints on the laptop; its exit code has to be `code`."""
        done = self.hosts["laptop"].run("decred-study", *words, env=self.env, seconds=seconds, check=False, cwd=cwd)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *words: str, output: Path) -> subprocess.Popen[bytes]:
        """Start `decred-study` on the laptop."""
        return self.hosts["laptop"].start("decred-study", *words, env=self.env, output=output)

    def write_study(self, name: str, epochs: int = 3, **values: Any) -> Path:
        """A study of one baseline and one proposal, in files of the laptop."""
        folder = self.folder / "files" / name
        folder.mkdir(parents=True)
        recipe = SMALL | {"training": {"epochs": epochs}}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        study = {
            "name": name,
            "corpus": f"{CORPORA_HERE}/demo",
            "recipe": {"base": "recipe.yaml"},
            "search": {"ctc_weight": {"uniform": [0.1, 0.6]}},
            "trials": 1,
            "baselines": ["ed"],
            "early_stopping": {"rule": "none"},
            "workers": {"count": 2},
        }
        (folder / "study.yaml").write_text(yaml.safe_dump(study | values))
        return folder / "study.yaml"

    def read_trials(self, name: str) -> list[TrialRecord]:
        """The trials of a study, as its ledger has them now; none before it has one."""
        if not (self.storage / name / "study.yaml").is_file():
            return []
        return list(Ledger.open(self.storage / name).trials.values())

    def assert_same_trials(self, name: str, whole: Ledger) -> None:
        """The study has the states and figures of the one that nothing disturbed."""
        trials = self.read_trials(name)
        assert [trial.state for trial in trials] == [TrialState.COMPLETE] * len(whole.trials)
        for trial, other in zip(trials, whole.trials.values(), strict=True):
            assert [epoch.epoch for epoch in trial.epochs] == [epoch.epoch for epoch in other.epochs]
            for epoch, its in zip(trial.epochs, other.epochs, strict=True):
                assert drop_clock(epoch.metrics) == drop_clock(its.metrics), f"epoch {epoch.epoch}"
            assert drop_clock(trial.final_metrics) == drop_clock(other.final_metrics)

    def wait_until(self, done: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> float:
        """Wait until something is so; the seconds that it took."""
        began = time.monotonic()
        while not done():
            assert time.monotonic() - began < seconds, f"{what} did not come within {seconds:g} s"
            time.sleep(0.2)
        return time.monotonic() - began

    def wait_for_epoch(self, name: str, epoch: int) -> float:
        """Wait until some trial of the study has reported so many epochs."""
        return self.wait_until(
            lambda: any(trial.epoch >= epoch for trial in self.read_trials(name)), f"epoch {epoch} of {name}"
        )

    def find_processes(self, host: str, pattern: str) -> list[int]:
        """The ids, on the host, of its processes whose command line matches."""
        listed = self.hosts[host].run("ps", "-ww", "-eo", "pid=,args=").stdout.splitlines()
        return [int(line.split()[0]) for line in listed if re.search(pattern, line)]

    def kill(self, host: str, pattern: str) -> None:
        """kill -9 of processes of a host, which have to be there."""
        processes = self.find_processes(host, pattern)
        assert processes, f"nothing on {host} matches {pattern}"
        # Not checked: the first ones that are killed end others, which are gone then.
        self.hosts[host].run("kill", f"-{signal.SIGKILL:d}", *map(str, processes), check=False)


@contextlib.contextmanager
def make_lab(corpus: Corpus) -> Iterator[Lab]:
    """Hosts with the profile `lab` in the laptop's home folder, for the time of the block; nothing is up yet."""
    folder = Path(tempfile.mkdtemp(prefix="decred-lab-"))
    try:
        (folder / "storage").mkdir()
        shutil.copytree(corpus.folder, folder / "corpora" / "demo", ignore=shutil.ignore_patterns("cache"))
        with make_hosts(["head", "one", "two", "laptop"]) as hosts:
            env = user_environment(hosts["laptop"], folder / "home")
            lab = Lab(hosts, folder, env)
            write_profile(lab)
            yield lab
    finally:
        shutil.rmtree(folder)


def write_profile(lab: Lab, **values: Any) -> None:
    """Write the profile `lab`, with other values."""
    machines = [
        {"address": host.address, "run": shlex.join(host.command), "cpus": 0 if name == "head" else 1}
        for name, host in lab.hosts.items()
        if name != "laptop"
    ]
    profile = {
        "kind": "machines",
        "storage": str(lab.storage),
        "paths": {CORPORA_HERE: str(lab.folder / "corpora")},
        "head": machines[0],
        "workers": machines[1:],
        "python": sys.executable,
        "temp": str(PRIVATE),
    }
    file = lab.folder / "home" / ".config" / "decred-study" / "clusters" / "lab.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(profile | values))


def find_job(printed: str) -> str:
    """The job's id in what `submit` or `resume` printed."""
    found = re.search(r"^job (\S+)$", printed, re.MULTILINE)
    assert found is not None, printed
    return found[1]


def drop_clock(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without those that differ from run to run."""
    clocks = ("seconds", "_per_second", "memory", "rtf")
    return {name: value for name, value in metrics.items() if not any(clock in name for clock in clocks)}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
