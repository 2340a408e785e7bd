"""Every command of the README is run as it is written, in its order, in a copy of the checkout.

The study files of the copy are miniatures, so that all commands take a minute or two; the environment is this one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
PROGRAMS = [
    program
    for page in ("README.md", "study/docs/python.md")
    for program in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
]
MINIATURE = {
    "tokenizer.vocabulary": 40,
    "data.speeds": [1.0],
    "data.batch_seconds": 60,
    "encoder": {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "cgmlp": 16, "channels": 2},
    "decoder": {"layers": 2, "width": 16, "heads": 2, "feed_forward": 16},
    "training.epochs": 1,
}
DEMO_OPTIONS = "--train-utterances 24 --dev-utterances 4 --test-utterances 4"
NOT_RUN = {  # here, but where these words are
    "make test": (".ci/run", "make test"),
    "apt-get install -y asterisk-core-sounds-en asterisk-core-sounds-en-wav": (
        ".ci/run",
        "asterisk-core-sounds-en asterisk-core-sounds-en-wav",
    ),
    "decred-study submit search_spaces/demo.yaml --address http://127.0.0.1:8265": (
        "tests/end_to_end/test_submission.py",
        '"-m", "study", "submit", str(path), "--address", head.dashboard',
    ),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with studies of seconds and the environment of this process."""
    folder = tmp_path_factory.mktemp("readme") / "decred-study"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in ("demo", "prompts"):
        _shrink(folder / "search_spaces" / f"{name}.yaml")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    (folder / ".venv" / ".installed").touch()
    return folder


def _shrink(path: Path) -> None:
    study = yaml.safe_load(path.read_text())
    study["recipe"]["set"] = MINIATURE
    study["search"]["auxiliary"] = {"count": [0, 1], "final_weight": [0.3, 0.9]}
    study |= {"trials": 1 if path.stem == "demo" else 0, "baselines": ["ed"], "early_stopping": {"rule": "none"}}
    study["confirmation"] = {"seeds": 1}
    # Groups of two workers are tested in test_whole_study.py and in tests/contracts/test_crew.py.
    study["workers"] = {"count": 1, "cpus": 1, "concurrent_trials": 1}
    path.write_text(yaml.safe_dump(study))


def _shorten(table: Path) -> None:
    """Leave the header and every twelfth of some five hundred rows."""
    header, *rows = table.read_text().splitlines(keepends=True)
    assert len(rows) > 500
    table.write_text("".join([header, *rows[::12]]))


def _start(command: str, checkout: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-c", f"set -e; source .venv/bin/activate; {command}"],
        cwd=checkout,
        env=os.environ | {"DEMO_OPTIONS": DEMO_OPTIONS, "MLFLOW_WORKERS": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _run(command: str, checkout: Path) -> str:
    process = _start(command, checkout)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, f"{command}\n{output}"
    return output


def _open_dashboard(command: str, checkout: Path) -> None:
    """Start the server, wait until its page answers, and end it with SIGINT."""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 5000)), "port 5000 is in use, so the page would be another server's"
    process = _start(command, checkout)
    try:
        deadline = time.monotonic() + 240  # it imports MLflow three times
        while True:
            try:
                with urllib.request.urlopen("http://127.0.0.1:5000/", timeout=2) as page:
                    assert page.status == 200
                return
            except OSError:
                assert process.poll() is None, process.communicate()[0]
                assert time.monotonic() < deadline, "MLflow's page did not answer in time"
                time.sleep(0.5)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


RUN = [
    # The chapter on own recordings stands alone, and takes as long as all others but the first.
    pytest.param(command, marks=pytest.mark.slow) if "prompts" in command else command
    for command in COMMANDS
    if command not in NOT_RUN
]


@pytest.mark.parametrize("command", RUN)
def test_every_command_of_the_readme_succeeds(command: str, checkout: Path) -> None:
    if "prompts" in command and not Path("/usr/share/asterisk/sounds/en_US_f_Allison").is_dir():
        pytest.skip("the recorded prompts are not installed: apt-get install the two packages the README names")
    if " dashboard " in command:
        _open_dashboard(command, checkout)
        return
    output = _run(command, checkout)
    if command.endswith("> prompts.tsv"):
        _shorten(checkout / "prompts.tsv")
    if command == "make study":
        assert "decred-study dashboard" in output
        assert "decred-study export" in output
        assert "decred-study train" in output


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_every_program_of_the_readme_runs_after_its_commands(number: int, checkout: Path) -> None:
    output = _run(f"python - <<'END'\n{PROGRAMS[number]}\nEND", checkout)
    assert output.strip()


def test_the_commands_that_are_not_run_here_are_in_the_readme_and_run_elsewhere() -> None:
    assert len(COMMANDS) > 10
    for command, place in NOT_RUN.items():
        assert command in COMMANDS
        file, words = place
        assert words in (ROOT / file).read_text(), f"{file} does not run `{command}` any more"
