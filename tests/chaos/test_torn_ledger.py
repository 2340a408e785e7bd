"""An event file is cut or damaged: a resume comes to its end, or names the line."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos.epoch_order import assert_trained_once, reported_epochs
from chaos.faults import FOLDER
from chaos.planted_training import CORRECTED
from chaos.records import assert_records_agree
from stub_training import DISK_FULL

from study.ledger.event_lines import to_line
from study.ledger.event_log import EventLog
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.runner import Work

pytestmark = pytest.mark.chaos
CORRECTABLE = Work("chaos.planted_training:train_until_corrected", "stub_training:prepare")
FIRST, SECOND = FOLDER / "events" / "000001.jsonl", FOLDER / "events" / "000002.jsonl"


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that makes a study leaves it for the others, under `stopped` and `ended`."""
    return tmp_path_factory.mktemp("templates")


@pytest.fixture
def stopped(templates: Path, plain_study: Callable[..., Path], decred_study: Callable[..., Any]) -> Path:
    """A study whose first trial was interrupted after an epoch; its next run ends well."""
    path = plain_study({"training.seed": DISK_FULL})
    if (templates / "stopped").exists():
        shutil.copytree(templates / "stopped", "studies")
    else:
        assert decred_study("run", path.name, work=CORRECTABLE).code == 2
        shutil.copytree("studies", templates / "stopped")
    kinds = ["session_started", "trial_started", "trial_epoch", "trial_ended"]
    assert [event.kind for event in EventLog(FOLDER).read()] == kinds
    Path(CORRECTED).touch()
    return path


@pytest.fixture
def ended(templates: Path, stopped: Path, decred_study: Callable[..., Any]) -> Path:
    """The same study after its second session, in which both trials came to their end."""
    if (templates / "ended").exists():
        shutil.rmtree("studies")
        shutil.copytree(templates / "ended", "studies")
    else:
        assert decred_study("run", stopped.name, work=CORRECTABLE).code == 0
        shutil.copytree("studies", templates / "ended")
    assert EventLog(FOLDER).files() == [FIRST, SECOND]
    return stopped


def assert_continues(path: Path, decred_study: Callable[..., Any]) -> None:
    """The next run keeps every whole event, trains what is missing once, and both records agree."""
    before = EventLog(FOLDER).read()
    result = decred_study("run", path.name, work=CORRECTABLE)
    assert result.code == 0, result
    ledger = Ledger.open(FOLDER)
    events = ledger.log.read()
    assert events[: len(before)] == before
    assert [(record.state, record.epoch) for record in ledger.trials.values()] == [(TrialState.COMPLETE, 4)] * 2
    assert_trained_once(events)
    assert_records_agree(FOLDER)


def undo_unrecorded_epochs() -> None:
    """Take back the checkpoints of epochs that the cut events do not hold.

    An event is on the disk before its report is answered, so that no crash leaves such a checkpoint.
    """
    for number in (0, 1):
        done, reported = FOLDER / "trials" / f"{number:04d}" / "done", reported_epochs(FOLDER, number)
        if reported and done.exists():
            done.write_text(str(min(int(done.read_text()), reported[-1])))
        else:
            done.unlink(missing_ok=True)


def tear(kind: str) -> None:
    """Cut the events in the middle of the last one of this kind: the crash came while it was written."""
    lines = FIRST.read_bytes().splitlines(keepends=True)
    index = max(n for n, line in enumerate(lines) if f'"kind":"{kind}"'.encode() in line)
    FIRST.write_bytes(b"".join(lines[:index]) + lines[index][: len(lines[index]) // 2])
    undo_unrecorded_epochs()


def tear_in_a_character() -> None:
    """Leave half a line whose last character is half there, too."""
    torn = '{"time":1.5,"kind":"trial_ended","number":0,"state":"failed","reason":"fünf größ'.encode()
    cut = torn[:-1]  # ends within the two bytes of the ß
    assert cut.decode(errors="ignore").encode() != cut
    with FIRST.open("ab") as stream:
        stream.write(cut)


@pytest.mark.parametrize("where", ["trial_started", "trial_epoch", "trial_ended", "within a character"])
def test_a_study_whose_last_event_is_torn_continues_to_its_end(
    where: str, stopped: Path, decred_study: Callable[..., Any]
) -> None:
    if where == "within a character":
        tear_in_a_character()
    else:
        tear(where)
    assert_continues(stopped, decred_study)


@pytest.mark.parametrize("seed", range(4))
def test_a_study_whose_newest_event_file_is_cut_at_any_byte_continues_to_its_end(
    seed: int, ended: Path, decred_study: Callable[..., Any]
) -> None:
    content = SECOND.read_bytes()
    cut = random.Random(seed).randrange(len(content))
    SECOND.write_bytes(content[:cut])
    print(f"{len(EventLog(FOLDER).read())} events are left")
    undo_unrecorded_epochs()
    assert_continues(ended, decred_study)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda line: line[: len(line) // 2] + b"\n",
    "a byte that is no text": lambda line: line.replace(b"time", b"t\xffme"),
    "a key changed by a bit": lambda line: line.replace(b'"number"', b'"numbes"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_changed(
    damage: str, stopped: Path, decred_study: Callable[..., Any]
) -> None:
    lines = FIRST.read_bytes().splitlines(keepends=True)
    FIRST.write_bytes(b"".join([*lines[:2], DAMAGES[damage](lines[2]), *lines[3:]]))
    before = read_own_files()
    result = decred_study("run", stopped.name, work=CORRECTABLE)
    assert result.err == f"error: {FIRST.resolve()}: line 3 is damaged; restore the file or remove the line\n"
    assert result.code == 2
    assert read_own_files() == before


def test_a_cut_in_the_file_of_an_earlier_session_is_named_and_nothing_is_changed(
    ended: Path, decred_study: Callable[..., Any]
) -> None:
    content = FIRST.read_bytes()
    last = to_line(EventLog(FOLDER).read()[3])
    assert content.endswith(last)
    FIRST.write_bytes(content[: -len(last) // 2])
    before = read_own_files()
    result = decred_study("run", ended.name, work=CORRECTABLE)
    whole = len(content) - len(last)
    assert result.err == (
        f"error: {FIRST.resolve()}: has {whole} whole bytes, but the session after it counted {len(content)}; "
        "restore the file\n"
    )
    assert result.code == 2
    assert read_own_files() == before


def read_own_files() -> dict[str, bytes]:
    """The study's own records; MLflow's database is written by a thread in the background."""
    paths = [*(FOLDER / "events").iterdir(), *map(FOLDER.joinpath, ("study.yaml", "base_recipe.yaml", "manifest.json"))]
    return {str(path): path.read_bytes() for path in paths}
