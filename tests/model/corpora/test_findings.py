from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import noise, write_segments

from model.corpora.findings import CHECKS, Rules
from model.corpora.preparation import FINDINGS_FILE, Preparation, Prepared, prepare_corpus
from model.corpora.source import AudioRef, Segment, Source
from model.errors import UserError

SETS = {"train": 4, "dev": 2, "test": 2}


@pytest.fixture
def segments(tmp_path: Path) -> list[Segment]:
    return write_segments(tmp_path / "recordings", SETS)


def prepare(folder: Path, segments: Sequence[Segment], **settings) -> Prepared:
    return prepare_corpus(Source("small", "the source", segments), folder / "out", Preparation(**settings))


def damaged(folder: Path) -> dict[str, tuple[AudioRef, str]]:
    """A recording and a text that each check of a single utterance finds."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, samples: np.ndarray, rate: int = 16_000, **options: str) -> AudioRef:
        soundfile.write(folder / name, samples, rate, **options)
        return AudioRef(str(folder / name))

    good = write("good.wav", noise(1, 1.0))
    whole = Path(write("truncated.flac", noise(2, 3.0)).file)
    whole.write_bytes(whole.read_bytes()[:-4000])
    (folder / "text.wav").write_text("no audio")
    loud = np.where(noise(3, 1.0) > 0, 1.0, noise(3, 1.0))
    return {
        "missing": (AudioRef(str(folder / "none.wav")), "one"),
        "unreadable": (AudioRef(str(folder / "text.wav")), "one"),
        "truncated": (AudioRef(str(whole)), "one"),
        "not-finite": (write("nan.wav", np.full(8000, np.nan), subtype="FLOAT"), "one"),
        "short": (write("short.wav", noise(4, 0.05)), "one"),
        "outside": (dataclasses.replace(good, start=2.0, end=3.0), "one"),
        "beyond-end": (dataclasses.replace(good, start=0.5, end=3.0), "one"),
        "no-channel": (dataclasses.replace(good, channel=1), "one"),
        "silent": (write("silent.wav", 1e-4 * noise(5, 1.0)), "one"),
        "clipped": (write("clipped.wav", loud), "one"),
        "channels": (write("stereo.wav", np.stack([noise(6), noise(7)], axis=1)), "one"),
        "rate": (write("low.wav", noise(8, 1.0, 6000), 6000), "one"),
        "no-text": (write("text-less.wav", noise(9)), "?!"),
        "dense": (write("dense.wav", noise(10)), "many words that nobody can say in half a second"),
        "long": (write("long.wav", noise(11, 31.0)), "one"),
    }


def test_each_check_finds_what_it_is_for_and_nothing_is_lost_silently(segments: list[Segment], tmp_path: Path) -> None:
    for check, (audio, text) in damaged(tmp_path / "bad").items():
        segments.append(Segment(f"bad {check}", f"bad-{check}", text, audio, set_name="train"))
    prepared = prepare(tmp_path, segments)
    found = {check: [finding.place for finding in found] for check, found in prepared.findings.by_check.items()}
    assert found == {check: [f"bad {check}"] for check in damaged(tmp_path / "bad")}
    kept = {cut.id.removeprefix("bad-") for cut in prepared.corpus.cuts("train")} & CHECKS.keys()
    assert kept == {check for check in found if Rules()[check] != "drop"}
    listed = (prepared.corpus.folder / FINDINGS_FILE).read_text().splitlines()
    assert sorted(line.split("\t")[:3] for line in listed[1:]) == sorted(
        [check, Rules()[check], f"bad {check}"] for check in found
    )
    assert len(prepared.lines) == len(found)
    assert all(CHECKS[check].meaning in line for check, line in zip(found, prepared.lines, strict=True))


@pytest.mark.parametrize("check", ["missing", "silent", "clipped", "channels", "long"])
def test_a_check_may_be_made_fatal_and_its_error_says_what_else_it_may_be(
    segments: list[Segment], tmp_path: Path, check: str
) -> None:
    audio, text = damaged(tmp_path / "bad")[check]
    segments.append(Segment("the bad one", "bad", text, audio, set_name="train"))
    message = rf"the source: 1 of its utterances: .* \(the bad one: .*\); correct them, or give --rule {check}="
    with pytest.raises(UserError, match=message):
        prepare(tmp_path, segments, rules=Rules({check: "fatal"}))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("check", ["clipped", "channels", "dense", "long", "beyond-end"])
def test_what_is_kept_or_changed_by_default_may_be_left_out(
    segments: list[Segment], tmp_path: Path, check: str
) -> None:
    audio, text = damaged(tmp_path / "bad")[check]
    segments.append(Segment("the bad one", "bad", text, audio, set_name="train"))
    corpus = prepare(tmp_path, segments, rules=Rules({check: "drop"})).corpus
    assert "bad" not in {entry.id for entry in corpus.entries("train")}
    assert len(list((corpus.folder / "audio").rglob("*.flac"))) == sum(SETS.values())


@pytest.mark.parametrize(
    ("check", "same"), [("test-sentence", "text"), ("test-speaker", "speaker"), ("same-audio", "audio")]
)
def test_what_training_shares_with_other_sets_is_found_and_may_be_left_out(
    segments: list[Segment], tmp_path: Path, check: str, same: str
) -> None:
    in_test = segments[-1]
    segments[1] = dataclasses.replace(segments[1], **{same: getattr(in_test, same)})
    kept = prepare(tmp_path, segments)
    found = {name: [finding.place for finding in found] for name, found in kept.findings.by_check.items()}
    later = in_test if check == "same-audio" else segments[1]  # of the same audio it is the second that is found
    assert found == {check: [later.place]}
    assert kept.corpus.sets["train"].utterances == SETS["train"]
    dropped = prepare(tmp_path, segments, rules=Rules({check: "drop"})).corpus
    assert later.id not in {entry.id for name in dropped.sets for entry in dropped.entries(name)}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"silence": "drop"}, r"--rule names check 'silence'; did you mean 'silent'\?"),
        ({"missing": "keep"}, r"--rule missing=keep: must be missing=drop or fatal"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Rules(rules)
