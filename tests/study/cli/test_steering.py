"""The commands that steer a study: what they refuse, what they print, and what they send to a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ledger_events import end_trial
from typer.testing import CliRunner

from model.errors import UserError
from study.cli.main import app
from study.ledger.commands import describe_user, list_commands
from study.ledger.lease import hold_lease
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

Command = Callable[..., str]


@pytest.fixture
def command(old: Ledger) -> Command:
    """Run a command on a study that nobody runs, whose trial 3 failed; what it prints, with FOLDER for its folder."""
    end_trial(old, 3, TrialState.FAILED, "KeyError: 3")

    def run(*words: object) -> str:
        first, *rest = map(str, words)
        done = CliRunner().invoke(app, [first, str(old.folder), *rest], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output.replace(str(old.folder), "FOLDER").strip()

    return run


def test_each_command_prints_what_came_of_it_in_one_line(command: Command) -> None:
    assert command("trial", 3, "retry") == "trial 0003 continues after epoch 3 with: decred-study run FOLDER"
    assert command("trial", 3, "pause") == "trial 0003 is paused, until it is resumed"
    assert command("trial", 3, "resume") == "trial 0003 continues after epoch 3 with: decred-study run FOLDER"
    assert command("trial", 3, "note", "loss rises") == "noted of trial 0003"
    assert command("trial", 3, "stop") == "trial 0003 has ended, with its figures so far"
    assert command("pause") == "study 'old' is paused, nothing starts until it is resumed"
    assert command("resume") == "study 'old' is resumed with: decred-study run FOLDER"
    assert command("set", "trials=40") == "trials=40 from now on, instead of trials=8"
    asked = command("enqueue", "ctc_weight=0.9")
    assert asked == "enqueued: loss.ctc_weight 0.9; it is tried next with: decred-study run FOLDER"


@pytest.mark.parametrize("words", [["stop", "why"], ["note"]])
def test_a_note_alone_takes_a_text(words: list[str], command: Command) -> None:
    with pytest.raises(UserError, match="note takes a TEXT"):
        command("trial", 3, *words)


def test_what_a_study_refuses_is_a_user_error(command: Command) -> None:
    with pytest.raises(UserError, match=r"^trial 0000 has ended, it is complete$"):
        command("trial", 0, "stop")
    with pytest.raises(UserError, match="does not run, so there is nothing to drain"):
        command("drain")


def test_without_waiting_the_command_is_left_to_the_driver(command: Command, old: Ledger) -> None:
    with hold_lease(old.folder):
        assert "it is carried out when" in command("trial", 3, "retry", "--no-wait")
        assert len(list_commands(old.folder)) == 1


def test_a_folder_without_a_study_is_refused_and_stays_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study"):
        CliRunner().invoke(app, ["pause", str(tmp_path)], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (["trial", "demo", "3", "note", "loss rises"], ["trial", "STUDY", "3", "note", "loss rises"]),
        (["pause", "demo", "--no-wait"], ["pause", "STUDY", "--no-wait"]),
        (["set", "demo", "trials=40"], ["set", "STUDY", "trials=40"]),
        (
            ["enqueue", "demo", "ctc_weight=0.9"],
            ["enqueue", "STUDY", "--content", json.dumps({"values": {"loss.ctc_weight": 0.9}, "from": None})],
        ),
        (["node", "demo", "host-a", "use"], ["node", "STUDY", "host-a", "use"]),
    ],
)
def test_on_a_cluster_the_same_command_runs_there_in_the_name_of_this_user(
    words: list[str], there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Any, ...]] = []

    def run_where_it_is(on: str | None, study: Path, words: Sequence[str]) -> None:
        sent.append((on, str(study), list(words)))

    monkeypatch.setattr("study.cli.giving.run_where_it_is", run_where_it_is)
    assert CliRunner().invoke(app, [*words, "--on", "lab"], catch_exceptions=False).exit_code == 0
    assert sent == [("lab", "demo", [*there, "--by", describe_user()])]
