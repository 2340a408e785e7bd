"""Comparing hypotheses of two systems: what is read, what is refused, and how often it claims what is not there."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.corpora.normaliser import version_of
from model.errors import UserError
from study.display.comparison import CLAIM, describe
from study.verdict.alignment import PairedUtterance
from study.verdict.comparison import bootstrap_interval, compare, compare_systems, correct_by_holm
from study.verdict.hypotheses import read_hypotheses, read_sets

REFERENCES = {"u1": "turn the light on", "u2": "book a seat", "u3": "is it open"}


def write_jsonl(path: Path, hypotheses: dict[str, str], settings: dict[str, Any] | None = None, **extra: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"id": key, "reference": REFERENCES[key], "hypothesis": text, "speaker": f"s-{key}"} | extra)
        for key, text in hypotheses.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    if settings is not None:
        path.with_suffix(".settings.json").write_text(json.dumps(settings))
    return path


def test_a_run_a_trn_and_a_ctm_file_of_the_same_words_are_compared_alike(tmp_path: Path) -> None:
    wrong = {"u1": "turn light on", "u2": "book a seat", "u3": "it was open"}
    ours = write_jsonl(tmp_path / "ours.jsonl", REFERENCES)
    trn, ctm = tmp_path / "b.trn", tmp_path / "b.ctm"
    trn.write_text("".join(f"{text} ({key})\n" for key, text in wrong.items()) + "\n;; a comment\n")
    words = [(key, place, word) for key, text in wrong.items() for place, word in enumerate(text.split())]
    lines = [f"{key} 1 {place / 10:.2f} 0.10 {word}" for key, place, word in words]
    random.Random(0).shuffle(lines)
    ctm.write_text("\n".join(lines))
    found = [compare_systems(ours, path) for path in (write_jsonl(tmp_path / "b.jsonl", wrong), trn, ctm)]
    assert found[0] == found[1] == found[2]
    ((compared,),) = found[:1]
    assert (compared.words, compared.first_wer, compared.second_wer) == (10, 0.0, 30.0)
    assert compared.segments == 2


def test_of_two_runs_the_sets_that_both_have_are_compared_and_of_dev_the_chosen_weights(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "turn the light on")):
        for set_name in ("dev", "dev-final", "test-in", f"test-{name}"):
            write_jsonl(tmp_path / name / "hypotheses" / f"{set_name}.jsonl", {"u1": text})
        write_jsonl(tmp_path / name / "hypotheses" / "dev.jsonl", {"u1": "of the last epoch"})
        write_jsonl(tmp_path / f"{name}-stopped" / "hypotheses" / "dev.jsonl", {"u1": "of the last epoch"})
    compared = compare_systems(tmp_path / "a", tmp_path / "b")
    assert [(found.set_name, found.first_wer, found.second_wer) for found in compared] == [
        ("dev", 100.0, 0.0),
        ("test-in", 100.0, 0.0),
    ]
    assert read_sets(tmp_path / "a").keys() == {"dev", "test-in", "test-a"}
    with pytest.raises(UserError, match="a-stopped: its test sets were not scored; give a baseline or the best trial"):
        read_sets(tmp_path / "a-stopped")


DECODINGS = {"beam": 4, "ctc_weight": 0.3}, {"beam": 4, "ctc_weight": 0.6}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ({"normaliser": "basic 1"}, {"normaliser": "none 1"}),
            r"was scored with normaliser basic 1, .* with none 1; sc",
        ),
        (
            ({"aligner": "jiwer 4"}, {"aligner": "jiwer 5"}),
            "was scored with aligner jiwer 4, .* with jiwer 5; score both",
        ),
        (
            ({"decoding": DECODINGS[0]}, {"decoding": DECODINGS[1]}),
            r"were decoded in different ways \(ctc_weight 0.3 and 0.6\); decode both alike, or give --any-decoding",
        ),
    ],
)
def test_what_was_scored_in_another_way_is_refused(tmp_path: Path, settings: Sequence[Any], message: str) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", REFERENCES, settings[0])
    second = write_jsonl(tmp_path / "b.jsonl", REFERENCES, settings[1])
    with pytest.raises(UserError, match=message):
        compare_systems(first, second)
    unknown = write_jsonl(tmp_path / "c.jsonl", REFERENCES)
    assert compare_systems(first, unknown)[0].difference == 0.0


def test_another_decoding_is_compared_where_it_is_asked_for(tmp_path: Path) -> None:
    paths = [
        write_jsonl(tmp_path / f"{number}.jsonl", REFERENCES, {"decoding": decoding})
        for number, decoding in enumerate(DECODINGS)
    ]
    assert compare_systems(*paths, any_decoding=True)[0].difference == 0.0


def test_text_that_was_scored_under_the_normaliser_is_not_normalised_again(tmp_path: Path) -> None:
    raw, scored = tmp_path / "raw.trn", tmp_path / "scored.jsonl"
    raw.write_text("Minus five, it's dark. (u1)\n")
    line = {"id": "u1", "reference": "-5 it is dark", "hypothesis": "-5 it is dark"}
    scored.write_text(json.dumps(line) + "\n")
    scored.with_suffix(".settings.json").write_text(json.dumps({"normaliser": version_of("whisper-english")}))
    for systems in ((raw, scored), (scored, raw)):
        (compared,) = compare_systems(*systems, "whisper-english")
        assert (compared.words, compared.first_wer, compared.second_wer) == (4, 0.0, 0.0)


def test_references_come_from_a_file_where_no_side_has_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.trn").write_text("book a seat (u2)\n")
    with pytest.raises(UserError, match=r"a.trn and .*b.trn have no reference of u2; give --reference FILE.trn"):
        compare_systems(tmp_path / "a.trn", tmp_path / "b.trn")
    (tmp_path / "r.trn").write_text("Book a seat! (u2)\n")
    compared = compare_systems(tmp_path / "a.trn", tmp_path / "b.trn", "basic", tmp_path / "r.trn")
    assert (compared[0].words, compared[0].first_wer) == (3, 0.0)


def break_json(folder: Path) -> tuple[Path, Path]:
    (folder / "b.jsonl").write_text('{"id": "u1", "hypothesis": "a"}\n{"id": 1\n')
    return folder / "b.jsonl", folder / "b.jsonl"


def repeat(folder: Path) -> tuple[Path, Path]:
    (folder / "b.trn").write_text("a (u1)\nb (u1)\n")
    return folder / "b.trn", folder / "b.trn"


def leave_out(folder: Path) -> tuple[Path, Path]:
    return write_jsonl(folder / "a.jsonl", REFERENCES), write_jsonl(folder / "b.jsonl", {"u1": "a", "u3": "b"})


def change_reference(folder: Path) -> tuple[Path, Path]:
    return write_jsonl(folder / "a.jsonl", {"u1": "a"}), write_jsonl(folder / "b.jsonl", {"u1": "a"}, reference="other")


def name_no_file(folder: Path) -> tuple[Path, Path]:
    return folder / "absent.jsonl", folder / "absent.jsonl"


def name_no_folder(folder: Path) -> tuple[Path, Path]:
    return folder / "absent", folder / "absent"


def name_other_format(folder: Path) -> tuple[Path, Path]:
    (folder / "a.stm").touch()
    return folder / "a.stm", folder / "a.stm"


def share_no_set(folder: Path) -> tuple[Path, Path]:
    for name, sets in (("a", ("x", "y")), ("b", ("z",))):
        for set_name in sets:
            write_jsonl(folder / name / f"{set_name}.jsonl", {"u1": "a"})
    return folder / "a", folder / "b"


def empty_folder(folder: Path) -> tuple[Path, Path]:
    return folder, folder


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (break_json, "b.jsonl: line 2 is no JSON object with `id` and `hypothesis`"),
        (repeat, "b.trn: line 2 has utterance u1 a second time; keep one"),
        (
            leave_out,
            r"have different utterances \(1 are in one alone, such as u2\); compare hypotheses of the same set",
        ),
        (
            change_reference,
            "have different references of u1, 'other' and 'turn the light on'; compare hypotheses of the",
        ),
        (name_no_file, r"absent.jsonl: cannot be read \(No such file or directory\); give a file with hypotheses"),
        (name_no_folder, "absent: does not exist; give the folder of a study, a trial or a run, or hypotheses"),
        (name_other_format, "a.stm: hypotheses are read from .jsonl, .trn and .ctm files; give one, or a run's folder"),
        (share_no_set, "has the sets x, y, .* has z; give two with a set in common"),
        (empty_folder, r"holds no hypotheses \(\*.jsonl\); give the folder of a trial or a run, or a file"),
    ],
)
def test_input_that_cannot_be_compared_is_one_line(
    tmp_path: Path, prepare: Callable[[Path], tuple[Path, Path]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        compare_systems(*prepare(tmp_path))


def test_a_ctm_line_that_is_too_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ctm").write_text("u1 1 0.0 0.1 word\nu1 1 0.1\n")
    with pytest.raises(UserError, match=r"a.ctm: line 2 is not `id channel start duration word`"):
        read_hypotheses(tmp_path / "a.ctm")


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_holms_p_values_keep_their_order_and_lie_between_the_plain_ones_and_bonferronis(values: list[float]) -> None:
    corrected = correct_by_holm(values)
    order = np.argsort(values, kind="stable")
    assert all(np.diff(np.array(corrected)[order]) >= 0)
    for plain, found in zip(values, corrected, strict=True):
        assert plain <= found <= min(1.0, len(values) * plain) + 1e-12
    assert min(corrected) == pytest.approx(min(1.0, len(values) * min(values)))


def draw_null(rng: random.Random, speakers: int, utterances: int) -> list[PairedUtterance]:
    """Two equal systems on speakers of whom some are hard for both."""
    pairs = []
    for speaker in range(speakers):
        rate = rng.betavariate(2, 8)
        for number in range(utterances):
            sides = ["".join("S" if rng.random() < rate else "C" for _ in range(10)) for _ in range(2)]
            pairs.append(PairedUtterance(f"{speaker}-{number}", str(speaker), *sides))
    return pairs


def test_equal_systems_are_claimed_to_differ_no_more_often_than_stated() -> None:
    rng = random.Random(0)
    claims = outside = 0
    studies = 300
    for _ in range(studies):
        compared = [compare(str(name), draw_null(rng, 12, 4)) for name in range(3)]
        corrected = correct_by_holm([found.matched_pairs for found in compared])
        claims += min(corrected) < CLAIM
        outside += not compared[0].interval[0] <= 0.0 <= compared[0].interval[1]
    assert claims <= 24, "5 % of 300 are 15, with a standard deviation of 3.8"
    # Percentile intervals of 12 blocks are somewhat too narrow.
    assert outside <= 36


def test_a_better_system_is_named_with_the_interval_of_the_difference() -> None:
    rng = random.Random(1)
    pairs = [PairedUtterance(pair.id, pair.speaker, pair.first, "C" * 10) for pair in draw_null(rng, 12, 8)]
    compared = compare("test-in", pairs)
    low, high = compared.interval
    assert 0 < low < compared.difference < high
    assert compared.second_wer == 0.0
    text = (
        f"B is lower by {compared.difference:.1f} points [{low:.1f}, {high:.1f}] over speakers on test-in (960 words)"
    )
    described = describe(compared.__class__(**(compared.__dict__ | {"holm": 0.001})))
    assert described == f"{text}, p 0.001"
    assert describe(compared.__class__(**(compared.__dict__ | {"holm": 0.2}))).startswith(
        "no difference shown on test-in"
    )


def test_few_speakers_are_no_blocks() -> None:
    rng = random.Random(2)
    assert compare("x", draw_null(rng, 4, 8)).blocks == "utterances"
    assert compare("x", draw_null(rng, 5, 8)).blocks == "speakers"


def test_utterances_of_a_speaker_that_are_alike_widen_the_interval() -> None:
    pairs = [
        PairedUtterance(f"{speaker}-{number}", str(speaker), "SSSSC" if speaker % 2 else "CCCCC", "SSCCC")
        for speaker in range(8)
        for number in range(20)
    ]
    widths = [high - low for low, high in (bootstrap_interval(pairs, by_speaker) for by_speaker in (True, False))]
    assert widths[0] > 3 * widths[1]
