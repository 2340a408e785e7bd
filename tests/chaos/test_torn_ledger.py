"""The ledger's last line is torn, or one in the middle is damaged: a resume finishes, or says which line it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos.faults import FOLDER
from chaos.planted_training import MENDED
from chaos.records import assert_records_agree
from stub_training import DISK_FULL

from study.ledger.ledger import EVENTS, Ledger
from study.ledger.records import TrialState
from study.runner import Work

MENDABLE = Work("chaos.planted_training:until_mended", "stub_training:prepare")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves the stopped study for the others."""
    return tmp_path_factory.mktemp("stopped") / "studies"


@pytest.fixture
def stopped(made_once: Path, plain_study: Callable[..., Path], decred_study: Callable[..., Any]) -> Path:
    """A study whose first trial was interrupted after an epoch; its next run ends well."""
    path = plain_study({"training.seed": DISK_FULL})
    if made_once.exists():
        shutil.copytree(made_once, "studies")
    else:
        assert decred_study("run", path.name, work=MENDABLE).code == 2
        shutil.copytree("studies", made_once)
    events = ["study_started", "trial_started", "trial_epoch", "trial_ended"]
    assert [event["kind"] for event in Ledger.open(FOLDER).events()] == events
    Path(MENDED).touch()
    return path


def tear(kind: str) -> None:
    """Cut the ledger in the middle of the last event of this kind: the crash came while it was written.

    The worker of a trial whose epoch was not written yet had no answer to its report.
    """
    path = FOLDER / EVENTS
    lines = path.read_bytes().splitlines(keepends=True)
    index = max(n for n, line in enumerate(lines) if f'"kind": "{kind}"'.encode() in line)
    path.write_bytes(b"".join(lines[:index]) + lines[index][: len(lines[index]) // 2])
    if kind != "trial_ended":
        (FOLDER / "trials" / "0000" / "done").unlink()


def tear_in_a_character() -> None:
    """Leave half a line whose last character is half there, too."""
    torn = '{"time": 1.5, "kind": "trial_ended", "number": 0, "state": "failed", "reason": "fünf größ'.encode()
    cut = torn[:-1]  # ends within the two bytes of the ß
    assert cut.decode(errors="ignore").encode() != cut
    with (FOLDER / EVENTS).open("ab") as stream:
        stream.write(cut)


LONG = [pytest.param(kind, marks=pytest.mark.chaos) for kind in ("trial_started", "trial_ended")]


@pytest.mark.parametrize("where", [*LONG, "trial_epoch", "within a character"])
def test_a_study_whose_last_ledger_line_is_torn_goes_on_to_its_end(
    where: str, stopped: Path, decred_study: Callable[..., Any]
) -> None:
    if where == "within a character":
        tear_in_a_character()
    else:
        tear(where)
    said = decred_study("run", stopped.name, work=MENDABLE)
    assert said.code == 0, said
    trials = Ledger.open(FOLDER).trials
    assert [(record.state, len(record.epochs)) for record in trials.values()] == [(TrialState.COMPLETE, 4)] * 2
    assert_records_agree(FOLDER)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda line: line[: len(line) // 2] + b"\n",
    "a byte that is no text": lambda line: line.replace(b"time", b"t\xffme"),
    "a key changed by a bit": lambda line: line.replace(b'"number"', b'"numbes"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_changed(
    damage: str, stopped: Path, decred_study: Callable[..., Any]
) -> None:
    path = FOLDER.resolve() / EVENTS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], DAMAGES[damage](lines[2]), *lines[3:]]))
    before = _contents()
    said = decred_study("run", stopped.name, work=MENDABLE)
    assert said.err == f"error: {path}: line 3 is damaged; restore the file or remove the line\n"
    assert said.code == 2
    assert _contents() == before


def _contents() -> dict[str, bytes]:
    """Of the study's own records; MLflow's database is written by a sender in the background."""
    names = (EVENTS, "optuna.db", "study.yaml", "base_recipe.yaml", "manifest.json")
    return {name: (FOLDER / name).read_bytes() for name in names}
