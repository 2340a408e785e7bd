"""A bundle is a study that can be read, says nothing of who ran it where, and is the same bytes each time."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_events import end_trial, report_epoch
from rich.console import Console

from model.errors import UserError
from model.recipe.files import named_recipe, with_values
from study.config.study_file import StudyFile
from study.display.status import print_status
from study.execution.anonymous import Anonymiser
from study.execution.bundle import write_bundle
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

HOME = "/home/jane"
STUDY = {
    "name": "s",
    "corpus": f"{HOME}/corpora/speech",
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}},
    "tracking": "postgresql://jane:${PGPASSWORD}@db.example/runs",
}
UTTERANCE = {"id": "u1", "reference": "call me jane", "hypothesis": "call me", "words": [0, 1, 0, 3], "speaker": "jane"}
TRACEBACK = f'  File "{HOME}/.venv/lib/python3.11/site-packages/torch/nn.py", line 3, in forward\nValueError: 3 / 4\n'


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two sessions on two machines; trial 1 failed. A replaced driver has added a line that does not count."""
    base = named_recipe("tiny", STUDY["corpus"])
    manifest = {"id": "1", "python": "3.11.7", "host": "laptop-of-jane", "packages": {"torch": "2.11.0"}}
    ledger = Ledger.create_or_open(tmp_path / "s", StudyFile.model_validate(STUDY), base, manifest)
    for number in range(2):
        if number:  # a second session, which seals the first one's file
            ledger = Ledger.open(tmp_path / "s")
            with (tmp_path / "s" / "events" / "000001.jsonl").open("ab") as stream:
                stream.write(b'{"kind": "trial_epoch", "tim')
        recipe = with_values(base, {"loss.ctc_weight": 0.3 + number / 10})
        ledger.start_trial(number, recipe, {}, None)
        report_epoch(ledger, number, 1, {"dev/wer": 30.0 - number}, node="laptop-of-jane" if number else "big-server")
        reason = f"ValueError: {HOME}/corpora/speech/x.flac: broken" if number else None
        end_trial(ledger, number, TrialState.FAILED if number else TrialState.COMPLETE, reason)
        folder = ledger.trial_folder(number)
        for name, content in (
            ("hypotheses/dev.jsonl", json.dumps(UTTERANCE) + "\n"),
            ("hypotheses/dev.settings.json", '{"normaliser": "basic 1"}'),
            ("chosen/chosen.json", "{}"),
            ("chosen/model.safetensors", "weights"),
            ("error-0.txt", TRACEBACK),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    (tmp_path / "s" / "report.html").write_text("the report of the folder, on laptop-of-jane")
    return ledger


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    return folder / "s"


def print_table(ledger: Ledger) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_status(ledger, Path("s"), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_unpacked_is_the_same_study(ledger: Ledger, tmp_path: Path) -> None:
    line = write_bundle(ledger, tmp_path / "s.zip")
    assert re.fullmatch(rf"\d+ files of study 's', \d\.\d MB, written to {tmp_path}/s.zip", line)
    opened = Ledger.open(unpack(tmp_path / "s.zip", tmp_path / "there"))
    ours, theirs = Ledger.open(ledger.folder).trials, opened.trials
    assert [record.metrics for record in ours.values()] == [record.metrics for record in theirs.values()]
    assert [record.state for record in theirs.values()] == [TrialState.COMPLETE, TrialState.FAILED]
    assert len(opened.log.files()) == 2
    # Words differ where a reason named a path, and nothing else.
    assert print_table(opened) == print_table(Ledger.open(ledger.folder)).replace(f"{HOME}/corpora/speech/", ".../")
    assert [opened.read_recipe(record).hash for record in theirs.values()] == [
        record.recipe_hash for record in ours.values()
    ]
    assert (opened.folder / "versions.txt").read_text() == "python==3.11.7\ntorch==2.11.0\n"


def test_it_holds_no_weights_texts_names_paths_and_passwords(ledger: Ledger, tmp_path: Path) -> None:
    study = {**STUDY, "tracking": "postgresql://me:hunter22@db.example/runs"}
    ledger.study = StudyFile.model_validate(study)  # as an earlier version may have written it
    write_bundle(ledger, tmp_path / "s.zip")
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        contents = {name: archive.read(name).decode() for name in archive.namelist()}
    assert not any(name.endswith((".safetensors", ".model")) for name in contents)
    everything = "\n".join(contents.values())
    for secret in ("jane", "big-server", "hunter22", str(tmp_path), "call me", "/home/"):
        assert secret not in everything, secret
    (utterance,) = contents["s/trials/0001/hypotheses/dev.jsonl"].splitlines()
    assert json.loads(utterance) == {"id": "u1", "words": [0, 1, 0, 3], "speaker": "speaker-001"}
    assert "corpus: .../speech" in contents["s/study.yaml"]
    assert 'File ".../nn.py", line 3, in forward\nValueError: 3 / 4' in contents["s/trials/0001/error-0.txt"]
    assert "<h1>Study s</h1>" in contents["s/report.html"]
    assert "node-001" in contents["s/report.html"]
    events = [json.loads(line) for line in contents["s/events/000002.jsonl"].splitlines()]
    nodes = [event["node"] for event in events if "node" in event]
    assert len(set(nodes)) == 2, "the driver's machine and the trial's"
    assert all(re.fullmatch(r"node-00\d", node) for node in nodes)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz", ".tgz"])
def test_the_same_study_gives_the_same_bytes(ledger: Ledger, tmp_path: Path, ending: str) -> None:
    for name in ("one", "other"):
        write_bundle(Ledger.open(ledger.folder), tmp_path / f"{name}{ending}")
        for path in ledger.folder.rglob("*"):
            path.touch()
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"other{ending}").read_bytes()


def test_both_formats_hold_the_same_files(ledger: Ledger, tmp_path: Path) -> None:
    write_bundle(ledger, tmp_path / "s.zip")
    write_bundle(ledger, tmp_path / "s.tar.gz")
    with zipfile.ZipFile(tmp_path / "s.zip") as one, tarfile.open(tmp_path / "s.tar.gz") as other:
        assert one.namelist() == sorted(one.namelist()) == other.getnames()
        for member in other.getmembers():
            stream = other.extractfile(member)
            assert stream is not None
            assert stream.read() == one.read(member.name)


def test_another_ending_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"s.rar: is no name for a bundle; let it end in .zip, .tar.gz or .tgz"):
        write_bundle(ledger, tmp_path / "s.rar")


def make_anonymiser() -> Anonymiser:
    """One that knows of no folder but the study's."""
    ledger = Ledger.__new__(Ledger)
    ledger.study, ledger.folder = StudyFile.model_validate(STUDY), Path("/srv/s")
    ledger.base_recipe = named_recipe("tiny", "/speech")
    return Anonymiser(ledger)


OF_NO_STUDY = make_anonymiser()
NAMES = st.text("abcXYZ019_.-äß", min_size=1, max_size=8).filter(lambda name: set(name) - set(".-"))


@given(st.lists(NAMES, min_size=2, max_size=5), st.sampled_from(['"%s"', "at %s, line 3", "%s: broken", "(%s)", "%s"]))
def test_of_any_absolute_path_only_the_last_part_is_left(parts: list[str], sentence: str) -> None:
    assert OF_NO_STUDY.clean(sentence % ("/" + "/".join(parts))) == sentence % f".../{parts[-1]}"


@pytest.mark.parametrize(
    "text", ["dev/in_domain/wer", "https://host:5000/a/b/c", "a / b", "I/O", "3/4/5", "x //y", "corpora/demo/audio"]
)
def test_what_is_no_absolute_path_stays(text: str) -> None:
    assert OF_NO_STUDY.clean(text) == text
