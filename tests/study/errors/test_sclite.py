"""The forms of sclite, held to what sclite itself writes."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from model.errors import UserError
from study.errors.content import Content, Recognition, System, Utterance, compute_wer, count_edits
from study.errors.output import REPORTS
from study.errors.sclite import find_speaker, format_pra, write_trn
from study.errors.sclite_reports import format_sys, round_up
from study.verdict.alignment import align_words

SCLITE = shutil.which("sclite") or "/usr/lib/sctk/bin/sclite"
WORDS = [
    "the",
    "a",
    "of",
    "to",
    "in",
    "is",
    "it",
    "light",
    "seat",
    "book",
    "london",
    "on",
    "off",
    "yes",
    "it's",
    "Zoo",
    "A",
]
NAME = "a system"


def make_content(pairs: Sequence[tuple[str, str, str]]) -> Content:
    """Of (id, reference, hypothesis), aligned as the metrics are."""
    utterances = [
        Utterance(key, "", "all", "", reference, (Recognition(hypothesis, align_words(reference, hypothesis)),))
        for key, reference, hypothesis in pairs
    ]
    return Content((System("A", NAME, Path("a")),), tuple(utterances))


def draw_pairs(seed: int, speakers: int, words: Sequence[str] = WORDS) -> list[tuple[str, str, str]]:
    """Utterances of some speakers, each of whom says something; some references and hypotheses are empty."""
    rng = random.Random(seed)
    pairs = []
    for number in range(speakers * 4):
        reference = rng.choices(words, k=rng.choice((0, 1, 4, 25)) if number >= 2 * speakers else 3)
        hypothesis: list[str] = []
        for word in reference:
            hypothesis += [] if rng.random() < 0.1 else [rng.choice(words) if rng.random() < 0.15 else word]
            hypothesis += rng.choices(words, k=rng.random() < 0.1)
        pairs.append(
            (f"{'speaker' * (number % 2)}{number % speakers}-u{number}", " ".join(reference), " ".join(hypothesis))
        )
    return pairs


def run_sclite(content: Content, folder: Path) -> Path:
    """The folder with sclite's reports on the trn files of a content, `out.sys` and so on."""
    if not Path(SCLITE).is_file():
        pytest.skip("NIST's sc_stats is not installed: apt-get install sctk")
    for name, text in write_trn(content).items():
        (folder / name).write_text(text)
    command = [SCLITE, "-r", "reference.trn", "trn", "-h", "A.trn", "trn", NAME, "-i", "spu_id", "-s", "-e", "utf-8"]
    command += ["-o", "sum", "dtl", "pralign", "sgml", "-n", "out", "-f", "0"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def read_alignments(path: Path) -> Content:
    """The utterances as sclite aligned them."""
    utterances, speaker, key = [], "", ""
    for line in path.read_text().split("\n"):
        if match := re.match(r'<SPEAKER id="([^"]*)"', line):
            speaker = match[1]
        elif match := re.match(r'<PATH id="\(([^"]*)\)"', line):
            key = match[1]
        elif key:
            steps = re.findall(r'([CSDI]),(?:"([^"]*)")?,(?:"([^"]*)")?(?=:[CSDI],|$)', line)
            letters = "".join(letter for letter, _, _ in steps)
            reference, hypothesis = (" ".join(step[side] for step in steps if step[side]) for side in (1, 2))
            utterances.append(Utterance(key, "", "all", speaker, reference, (Recognition(hypothesis, letters),)))
            key = ""
    return Content((System("A", NAME, Path("a")),), tuple(utterances))


@pytest.mark.parametrize(("seed", "speakers"), [(0, 1), (1, 2), (2, 5), (3, 12)])
def test_of_sclites_own_alignments_all_reports_are_the_same_to_the_byte(
    tmp_path: Path, seed: int, speakers: int
) -> None:
    folder = run_sclite(make_content(draw_pairs(seed, speakers)), tmp_path)
    aligned = read_alignments(folder / "out.sgml")
    assert len(aligned.utterances) == 4 * speakers
    for name, write in REPORTS.items():
        assert write(aligned, 0) == (folder / f"out.{name}").read_text(), name


def test_speakers_without_a_word_in_their_references_have_counts_instead_of_rates(tmp_path: Path) -> None:
    pairs = [("a-1", "", "hey you"), ("a-2", "", ""), ("bb_long_name-1", "one two", "one"), ("c-1", "", "oh")]
    folder = run_sclite(make_content(pairs), tmp_path)
    assert "2*" in (folder / "out.sys").read_text()
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    for place, given in ((folder, pairs), (run_sclite(make_content(pairs[:1]), nothing), pairs[:1])):
        for name, write in REPORTS.items():
            assert write(make_content(given), 0) == (place / f"out.{name}").read_text(), name


def test_where_texts_can_be_aligned_in_one_way_alone_the_reports_are_the_same_from_trn_files(tmp_path: Path) -> None:
    pairs = [
        ("s1-1", "turn the light on", "turn light on"),
        ("s1-2", "book a seat", "book a sheet"),
        ("s2-1", "is it open", "is it open now"),
        ("s2-2", "hello world", ""),
        ("s3-1", "", "oops"),
    ]
    content = make_content(pairs)
    folder = run_sclite(content, tmp_path)
    for name, write in REPORTS.items():
        assert write(content, 0) == (folder / f"out.{name}").read_text(), name


def test_sclite_never_counts_fewer_errors_than_the_metrics(tmp_path: Path) -> None:
    few = WORDS[:3]  # so that there are many ways to align
    content = make_content(draw_pairs(4, 8, few))
    theirs = read_alignments(run_sclite(content, tmp_path) / "out.sgml")
    by_id = {utterance.id: utterance for utterance in theirs.utterances}
    differing = 0
    for utterance in content.utterances:
        ours, other = (count_edits([one], 0) for one in (utterance, by_id[utterance.id]))
        assert (ours.length, ours.errors <= other.errors) == (other.length, True)
        differing += ours[:3] != other[:3]
    assert differing
    assert compute_wer(count_edits(theirs.utterances, 0)) >= compute_wer(count_edits(content.utterances, 0))  # type: ignore[operator]


def test_words_of_other_letters_stand_under_each_other() -> None:
    rows = format_pra(make_content([("s-1", "größer als ß", "großer als")]), 0).splitlines()
    assert rows[-5:-2] == ["REF:  größer als ß ", "HYP:  großer als * ", "Eval: S          D "]


def test_a_speaker_that_is_not_known_is_taken_from_the_id() -> None:
    utterance = Utterance("a_b-c_d", "", "all", "", "", ())
    assert find_speaker(utterance) == "a_b"
    assert find_speaker(Utterance("a_b_c", "", "all", "", "", ())) == "a"
    assert find_speaker(Utterance("a_b", "", "all", "Ann", "", ())) == "Ann"


def test_ids_that_a_trn_file_cannot_hold_are_refused() -> None:
    with pytest.raises(UserError, match="two sets have an utterance u-1, but a trn file knows no sets; give one --set"):
        write_trn(make_content([("u-1", "a", "a"), ("u-1", "b", "b")]))
    with pytest.raises(UserError, match=r"utterance 'u \(1\)' cannot stand in a trn file, which has ids without"):
        write_trn(make_content([("u (1)", "a", "a")]))


def test_halves_are_rounded_up_and_long_names_keep_the_table_straight() -> None:
    assert [round_up(value) for value in (6.25, 18.75, 43.75, 0.0, 100.0)] == [6.3, 18.8, 43.8, 0.0, 100.0]
    name = "a-very-long-name-of-a-system-that-would-not-fit-into-the-width-of-the-table-at-all"
    content = Content((System("A", name, Path("a")),), make_content([("s-1", "a b", "a c")]).utterances)
    lines = format_sys(content, 0).splitlines()[5:]
    assert len({len(line) for line in lines}) == 1
    assert name[:60] in lines[1]
