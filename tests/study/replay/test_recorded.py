"""Packed records: what goes in comes out, and a file that is none is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from ledger_events import end_trial, report_epoch
from recorded_trials import TINY, make_study

from model.errors import UserError
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState
from study.replay.recorded import is_packed, pack, read_edits, read_packed, record_ledger, write_packed
from study.replay.table import make_table


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A study of four complete trials and a pruned one."""
    opened = Ledger.create_or_open(tmp_path / "recorded", make_study(), TINY, {})
    opened.start_session(trials=5, concurrency=3)
    for number in range(5):
        weight = number / 10 + 0.123456789
        opened.start_trial(number, TINY, {"ctc_weight": weight}, None, {"ctc_weight": weight})
        for epoch in (1, 2):
            report_epoch(opened, number, epoch, {"dev/wer": 10.0 * number + epoch / 3, "dev/cer": float("nan")})
        end_trial(opened, number, TrialState.COMPLETE if number < 4 else TrialState.PRUNED, metrics={"dev/wer": 1 / 3})
    return opened


def test_a_packed_study_gives_the_table_of_its_folder(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "packed.jsonl.gz"
    assert write_packed(path, [ledger]) == 4
    (packed,) = read_packed(path)
    assert packed.concurrency == 3
    whole, again = make_table([record_ledger(ledger)]), make_table([packed])
    assert [t.figure for t in again.trainings] == pytest.approx([t.figure for t in whole.trainings], rel=1e-5)
    assert [t.point for t in again.trainings] == [t.point for t in whole.trainings]
    for one, other in zip(again.trainings, whole.trainings, strict=True):
        assert one.record.curve("dev/wer") == pytest.approx(other.record.curve("dev/wer"), rel=1e-5)
    assert [sum(t.costs) + t.end_cost for t in again.trainings] == pytest.approx(
        [sum(t.costs) + t.end_cost for t in whole.trainings], abs=0.01
    )


def test_a_packed_record_names_no_folder_of_the_machine_that_made_it(ledger: Ledger, tmp_path: Path) -> None:
    study = ledger.study.model_copy(
        update={"corpus": "/home/me/corpus", "storage": "/scratch", "tracking": "http://me"}
    )
    ledger.study = study
    write_packed(tmp_path / "packed.jsonl.gz", [ledger])
    text = gzip.decompress((tmp_path / "packed.jsonl.gz").read_bytes()).decode()
    assert not any(word in text for word in ("/home", "/scratch", "http"))


def test_packing_twice_gives_the_same_bytes(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_packed(tmp_path / name, [ledger])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_edits_are_in_order_of_ids(tmp_path: Path) -> None:
    lines = [{"id": "b", "words": [1, 0, 0, 3]}, {"id": "a", "words": [0, 0, 0, 2]}]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_edits(tmp_path) == {"dev": [[0, 0, 0, 2], [1, 0, 0, 3]]}


def test_figures_that_are_not_finite_come_back_as_nan(ledger: Ledger) -> None:
    assert pack(ledger.trials[0])["epochs"][0]["dev/cer"] is None
    assert json.dumps(pack(ledger.trials[0]), allow_nan=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json\n", r"is no packed record \(line 1: .*; give a study, or a file that .*pack_record\.py wrote"),
        ('{"kind": "training"}\n', r"is no packed record \(line 1: IndexError"),
    ],
)
def test_a_file_that_is_no_packed_record_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        read_packed(tmp_path / "x.jsonl")


def test_a_packed_record_that_is_not_there_is_refused_and_told_from_studies_by_its_name(tmp_path: Path) -> None:
    assert is_packed(Path("a.jsonl.gz"))
    assert not is_packed(Path("studies/a"))
    with pytest.raises(UserError, match=r"none\.jsonl\.gz does not exist; give a study, or a packed record$"):
        read_packed(tmp_path / "none.jsonl.gz")
