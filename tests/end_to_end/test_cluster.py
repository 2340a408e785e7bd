"""Studies on a cluster of three hosts, from a user's laptop, by the project's commands alone; `make cluster-test`."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import RAYLET, Lab, find_job, make_lab

from model.corpora.corpus import Corpus
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

README = Path(__file__).parents[2] / "README.md"
pytestmark = pytest.mark.cluster
PORT = 5000  # of the laptop, which has all its ports for itself
EPOCHS = 40  # of every trial: half a minute on two free cores
COMPLETE = [TrialState.COMPLETE] * 2


@pytest.fixture(scope="module")
def lab(corpus: Corpus) -> Iterator[Lab]:
    with make_lab(corpus) as lab:
        printed = lab.command("cluster", "up", "lab")
        assert printed.splitlines()[:3] == [f"10.77.0.{number}: started" for number in (1, 2, 3)]
        yield lab


@pytest.fixture(scope="module")
def whole(lab: Lab) -> Ledger:
    """A study that nothing disturbed."""
    lab.command("submit", str(lab.write_study("whole", epochs=EPOCHS)), "--on", "lab", "--wait")
    return Ledger.open(lab.storage / "whole")


def test_a_cluster_that_is_up_stays_as_it_is_when_it_is_brought_up_again(lab: Lab) -> None:
    before = [lab.find_processes(host, RAYLET) for host in ("head", "one", "two")]
    printed = lab.command("cluster", "up", "lab")
    assert printed.splitlines()[:3] == [f"10.77.0.{number}: runs already" for number in (1, 2, 3)]
    assert [lab.find_processes(host, RAYLET) for host in ("head", "one", "two")] == before
    assert "10.77.0.3: running" in lab.command("cluster", "status", "lab")


def test_a_submitted_study_spans_two_hosts_and_is_read_from_the_laptop(lab: Lab, whole: Ledger) -> None:
    assert [trial.state for trial in whole.trials.values()] == COMPLETE
    assert whole.manifest["git"]["commit"], "the commit of the code that was uploaded"
    assert {trial.metrics["train/accumulate"] for trial in whole.trials.values()} == {1.0}
    assert "whole  complete" in lab.command("studies", "--on", "lab")
    assert "complete" in lab.command("status", "whole", "--on", "lab")
    assert "trial 0001 complete" in lab.command("logs", "whole", "--on", "lab")
    assert f"epoch {EPOCHS}, step " in lab.command("logs", "whole", "--on", "lab", "--trial", "1")
    out = lab.folder / "best.yaml"
    lab.command("export", "whole", "--on", "lab", "-o", str(out))
    assert out.read_text() == (lab.storage / "whole" / "best-recipe.yaml").read_text()
    printed = lab.command("stop", "whole", "--on", "lab", code=2)
    assert printed.startswith("error: study 'whole' does not run: its job whole-")


def test_the_pages_of_a_study_open_on_the_laptop(lab: Lab, whole: Ledger) -> None:
    ask = f"import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{PORT}/health').status)"
    laptop = lab.hosts["laptop"]
    words = ("dashboard", "whole", "--on", "lab", "--port", str(PORT))
    with lab.start(*words, output=lab.folder / "dashboard.log") as process:
        try:
            lab.wait_until(
                lambda: laptop.run(sys.executable, "-c", ask, check=False).stdout == "200\n", "the dashboard's page"
            )
        finally:
            process.send_signal(signal.SIGINT)
    copy = sqlite3.connect(lab.folder / "home" / ".cache" / "decred-study" / "pages" / "lab-whole.db")
    assert copy.execute("select count(*) from runs").fetchone() == (3,), "the study's and its trials' runs"


def test_a_study_goes_on_without_the_laptop_and_is_stopped_and_continued_from_it(lab: Lab, whole: Ledger) -> None:
    file = str(lab.write_study("walked-away", epochs=EPOCHS))
    with lab.start("submit", file, "--on", "lab", "--wait", output=lab.folder / "submit.log") as process:
        lab.wait_for_epoch("walked-away", 1)
        process.kill()  # the laptop is closed
    assert "study 'walked-away' runs already, as job walked-away-" in lab.command("submit", file, "--on", "lab")
    with lab.start("attach", "walked-away", "--on", "lab", output=lab.folder / "attach.log") as view:
        lab.wait_until(lambda: "running" in (lab.folder / "attach.log").read_text(), "the table")
        printed = lab.command("stop", "walked-away", "--on", "lab")
        assert "continue it with: decred-study resume walked-away --on lab" in printed
        assert view.wait(60) == 130, "the view ends as the study does"
    assert "stopped" in lab.command("studies", "--on", "lab")
    assert TrialState.INTERRUPTED in [trial.state for trial in lab.read_trials("walked-away")]
    resumed = lab.command("resume", "walked-away", "--on", "lab", "--wait")
    assert find_job(resumed).endswith("-2")
    lab.assert_same_trials("walked-away", whole)


def test_a_driver_that_is_killed_is_continued_by_hand(lab: Lab, whole: Ledger) -> None:
    lab.command("submit", str(lab.write_study("killed-driver", epochs=EPOCHS)), "--on", "lab")
    lab.wait_for_epoch("killed-driver", 2)
    lab.kill("head", r"python -m study run ")
    lab.wait_until(lambda: "failed" in lab.command("studies", "--on", "lab"), "the job's end")
    lab.command("resume", "killed-driver", "--on", "lab", "--wait")
    lab.assert_same_trials("killed-driver", whole)


def test_a_head_that_is_killed_is_brought_up_again_and_finds_its_study(lab: Lab, whole: Ledger) -> None:
    lab.command("submit", str(lab.write_study("killed-head", epochs=EPOCHS)), "--on", "lab")
    lab.wait_for_epoch("killed-head", 2)
    lab.kill("head", "gcs_server|raylet/raylet|python -m study run|ray start|dashboard")
    lab.command("cluster", "down", "lab")
    lab.command("cluster", "up", "lab")
    assert "killed-head" not in lab.command("studies", "--on", "lab"), "a new head knows no jobs"
    lab.command("resume", "killed-head", "--on", "lab", "--wait")
    lab.assert_same_trials("killed-head", whole)


def test_the_chapter_of_the_readme_is_true_word_for_word(lab: Lab, whole: Ledger) -> None:
    folder = lab.write_study("demo", epochs=EPOCHS).parent
    (folder / "search_spaces").mkdir()
    for name, to in (("study.yaml", "demo.yaml"), ("recipe.yaml", "recipe.yaml")):
        (folder / name).rename(folder / "search_spaces" / to)
    commands = read_commands()
    assert commands[0] == ["cluster", "up", "lab"]
    assert commands[-1] == ["cluster", "down", "lab"]
    printed = {}
    for words in commands[:-1]:  # the cluster goes down in the next test
        printed[" ".join(words[:1] if words[0] != "cluster" else words[:2])] = lab.command(*words, cwd=folder)
        if words[0] == "submit":
            lab.wait_for_epoch("demo", 1)
    assert re.search(r"^demo +running", printed["studies"], re.MULTILINE)
    assert "stopped job demo-" in printed["stop"]
    lab.assert_same_trials("demo", whole)
    assert (folder / "best-recipe.yaml").read_text() == (lab.storage / "demo" / "best-recipe.yaml").read_text()


def read_commands() -> list[list[str]]:
    """The words of each command of the chapter after `decred-study`."""
    (block,) = re.findall(r"```console lab\n(.*?)```", README.read_text(), re.DOTALL)
    return [shlex.split(line)[2:] for line in block.splitlines()]


def test_nothing_is_left_when_the_cluster_is_taken_down(lab: Lab) -> None:
    lab.command("submit", str(lab.write_study("last", epochs=200)), "--on", "lab")
    lab.wait_for_epoch("last", 1)
    printed = lab.command("cluster", "down", "lab")
    assert "study last: stopped" in printed
    assert lab.read_trials("last")[0].state is TrialState.INTERRUPTED
    for host in ("head", "one", "two"):
        left = lab.hosts[host].run("ps", "-ww", "-eo", "pid=,ppid=,stat=,args=").stdout.splitlines()
        assert len([line for line in left if " Z " not in line and "<defunct>" not in line]) == 2, (
            left
        )  # ps and the first


def test_the_processes_of_the_laptop_leave_no_files(lab: Lab) -> None:
    assert not list(Path("/tmp").glob("decred-submit-*"))
    assert not list(Path("/tmp").glob("decred-request-*"))
    assert os.listdir(lab.folder / "home" / ".config" / "decred-study" / "tokens") == ["lab"]
