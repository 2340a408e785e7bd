"""The paired tests against NIST's sc_stats, on alignments of sclite and on random ones."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.verdict.alignment import PairedUtterance, align_words, count_errors, count_reference
from study.verdict.paired_tests import (
    binomial,
    matched_pairs,
    mcnemar,
    sign_test,
    speaker_differences,
    split_by_word,
    split_segments,
    wilcoxon,
)

SHARED = Path(__file__).parents[4] / "shared" / "sctk"
SC_STATS = shutil.which("sc_stats") or "/usr/lib/sctk/bin/sc_stats"
WORDS = {"C": '"a","a"', "S": '"a","b"', "D": '"a",', "I": ',"b"'}
RECOGNITIONS = st.text("CSDI", max_size=12)


def read_sgml(path: Path) -> dict[str, tuple[str, str]]:
    """Speaker and recognition of each utterance of sclite's alignments."""
    found: dict[str, tuple[str, str]] = {}
    speaker = utterance = ""
    for line in path.read_text().splitlines():
        if match := re.match(r'<SPEAKER id="([^"]*)"', line):
            speaker = match[1]
        elif match := re.match(r'<PATH id="([^"]*)"', line):
            utterance = match[1]
        elif re.match("[CSDI],|$", line):
            found[utterance] = speaker, "".join(word[0] for word in re.split(":(?=[CSDI],)", line) if word)
    return found


def pair_sgml(first: str, second: str) -> list[PairedUtterance]:
    if not SHARED.is_dir():
        pytest.skip("NOT TESTED: NIST's alignments are not in ../shared/sctk")
    ours, theirs = read_sgml(SHARED / first), read_sgml(SHARED / second)
    return [PairedUtterance(key, ours[key][0], ours[key][1], theirs[key][1]) for key in ours]


def write_sgml(title: str, utterances: Iterable[tuple[str, str, str]]) -> str:
    """Alignments as sclite writes them, of (id, speaker, recognition), utterances of a speaker one after the other."""
    lines = [f'<SYSTEM title="{title}" ref_fname="r" hyp_fname="h" creation_date="x" format="2.4" frag_corr="FALSE" ']
    lines[0] += 'opt_del="FALSE" weight_ali="FALSE" weight_filename="">'
    current = None
    for number, (key, speaker, recognition) in enumerate(utterances):
        if speaker != current:
            lines += ["</SPEAKER>"] * (current is not None) + [f'<SPEAKER id="{speaker}">']
            current = speaker
        lines.append(f'<PATH id="({key})" word_cnt="{len(recognition)}" sequence="{number}">')
        lines += [":".join(f"{letter},{WORDS[letter]}" for letter in recognition), "</PATH>"]
    return "\n".join([*lines, "</SPEAKER>", "</SYSTEM>", ""])


def run_sc_stats(test: str, pairs: list[PairedUtterance]) -> str:
    if not Path(SC_STATS).is_file():
        pytest.skip("NIST's sc_stats is not installed: apt-get install sctk")
    sgml = write_sgml("one", ((pair.id, pair.speaker, pair.first) for pair in pairs))
    sgml += write_sgml("two", ((pair.id, pair.speaker, pair.second) for pair in pairs))
    command = [SC_STATS, "-p", "-t", test, "-v", "-n", "-"]
    return subprocess.run(command, input=sgml, capture_output=True, text=True, check=True).stdout


def find(pattern: str, text: str) -> list[float]:
    match = re.search(pattern, text)
    assert match, text
    return [float(value) for value in match.groups()]


def draw_pairs(seed: int) -> list[PairedUtterance]:
    """Utterances of two systems that are right in most words, of 8 to 12 speakers whose differences are all unequal."""
    rng = random.Random(seed)
    while True:
        pairs = draw_recognitions(rng)
        sizes = {abs(value) for value in speaker_differences(pairs)}
        if 0 not in sizes and len(sizes) == len({pair.speaker for pair in pairs}):
            return pairs


def draw_recognitions(rng: random.Random) -> list[PairedUtterance]:

    def recognise(length: int, accuracy: float) -> str:
        letters = []
        for _ in range(length):
            letters += ["I"] * (rng.random() < 0.08)
            letters.append("C" if rng.random() < accuracy else rng.choice("SD"))
        return "".join([*letters, *"I" * (rng.random() < 0.1)])

    pairs = []
    for speaker in range(rng.randint(8, 12)):
        for number in range(rng.randint(2, 6)):
            length = rng.randint(3, 15)
            sides = recognise(length, 0.8), recognise(length, rng.choice((0.7, 0.85)))
            pairs.append(PairedUtterance(f"s{speaker:02d}-{number:03d}", f"s{speaker:02d}", *sides))
    return pairs


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("file1.sgml", "file2.sgml", (3, 0.667, 0.577, 2.0)),
        ("sys1.ctm.sgml", "sys2.ctm.sgml", (24, 0.375, 1.173, 1.567)),
    ],
)
def test_matched_pairs_are_those_that_nist_prints(first: str, second: str, expected: tuple[float, ...]) -> None:
    found = matched_pairs(pair_sgml(first, second))
    assert (found.segments, found.mean, found.deviation, found.z) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("seed", range(12))
def test_all_four_tests_equal_those_of_sc_stats_on_random_alignments(seed: int) -> None:
    pairs = draw_pairs(seed)
    differences = speaker_differences(pairs)
    ours = matched_pairs(pairs)
    pattern = r"# segs: (\d+)\).*\(mean: (-?[\d.]+)\) \(std dev: ([\d.]+)\) \(Z Stat: (-?[\d.]+)\)"
    theirs = find(pattern, run_sc_stats("mapsswe", pairs))
    assert (ours.segments, ours.mean, ours.deviation, ours.z) == pytest.approx(tuple(theirs), abs=1e-3)
    # Both sides of a binomial with equal sides overlap in its middle: NIST prints more than 1.
    theirs_mcnemar = min(1.0, find(r"Conf=\(([\d.]+)\)", run_sc_stats("mcn", pairs))[0])
    assert mcnemar(pairs) == pytest.approx(theirs_mcnemar, abs=1e-3)
    ranks = find(r"Z statistic =\s*(-?[\d.]+)", run_sc_stats("wilc", pairs))[0]
    assert abs(wilcoxon(differences).z) == pytest.approx(abs(ranks), abs=6e-3)
    fewer = min(sum(value > 0 for value in differences), sum(value < 0 for value in differences))
    probability = find(rf"\n\s+{fewer}\s+([\d.]+)", run_sc_stats("sign", pairs))[0]
    assert sign_test(differences) == pytest.approx(min(1.0, probability), abs=1e-3)


@given(st.lists(st.tuples(RECOGNITIONS, RECOGNITIONS), max_size=8))
def test_segments_hold_all_errors_and_swapping_the_systems_changes_signs_alone(sides: list[tuple[str, str]]) -> None:
    pairs = [
        PairedUtterance(str(number), "s", first, _fit(second, count_reference(first)))
        for number, (first, second) in enumerate(sides)
    ]
    swapped = [PairedUtterance(pair.id, pair.speaker, pair.second, pair.first) for pair in pairs]
    for pair in pairs:
        assert sum(split_segments(pair)) == count_errors(pair.first) - count_errors(pair.second)
        assert "".join(split_by_word(pair.first)) == pair.first
    ours, theirs = matched_pairs(pairs), matched_pairs(swapped)
    assert (ours.segments, ours.z, ours.p) == (theirs.segments, -theirs.z, theirs.p)
    assert mcnemar(pairs) == mcnemar(swapped)


def _fit(recognition: str, length: int) -> str:
    """A recognition with as many words of the reference as asked for."""
    words = [letter for letter in recognition if letter != "I"][:length]
    return "".join(words).ljust(length, "C")


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_an_alignment_has_each_word_of_both_texts(reference: str, hypothesis: str) -> None:
    recognition = align_words(reference, hypothesis)
    assert count_reference(recognition) == len(reference.split())
    assert len(recognition) - recognition.count("D") == len(hypothesis.split())
    assert (count_errors(recognition) == 0) == (reference.split() == hypothesis.split())


def test_ties_are_shared_and_zeros_take_both_signs_in_turn() -> None:
    assert wilcoxon([Fraction(2), Fraction(-2)]).z == 0.0
    assert wilcoxon([Fraction(0), Fraction(0)]).z == 0.0
    assert wilcoxon([]).p == 1.0
    assert sign_test([Fraction(0)] * 3 + [Fraction(1)] * 5) == sign_test([Fraction(-1)] * 2 + [Fraction(1)] * 6)


@pytest.mark.parametrize(
    ("fewer", "count", "p"), [(0, 0, 1.0), (1, 2, 1.0), (0, 1, 1.0), (0, 6, 0.03125), (4, 14, 0.1796)]
)
def test_fair_coins(fewer: int, count: int, p: float) -> None:
    assert binomial(fewer, count) == pytest.approx(p, abs=1e-4)


def test_references_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="utterance u: one side has 2 words in its reference, the other 1; align both"):
        PairedUtterance("u", "s", "CIC", "S")
