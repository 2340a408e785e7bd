"""Paired tests of two systems on the same utterances, as NIST's sc_stats computes them (SCTK 2.4).

They say whether these two models differ, each trained once; they say nothing of the configurations behind them, since
another seed is another model.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

from study.verdict.alignment import PairedUtterance, count_errors

BOUNDARY = 2  # words that both have right end a segment
TIE = 0.005  # percent; speakers whose WERs differ by less are equal in the sign test


@dataclass(frozen=True)
class MatchedPairs:
    """The matched-pairs test on segments: mean and standard deviation of errors of the first less the second."""

    segments: int
    mean: float
    deviation: float
    z: float
    p: float


def matched_pairs(utterances: Iterable[PairedUtterance]) -> MatchedPairs:
    """MAPSSWE (Gillick and Cox, ICASSP 1989): the mean difference in errors over segments between words that both have
    right."""
    differences = [difference for utterance in utterances for difference in split_segments(utterance)]
    count = len(differences)
    mean = math.fsum(differences) / count if count else 0.0
    variance = math.fsum((value - mean) ** 2 for value in differences) / (count - 1) if count > 1 else 0.0
    z = mean / math.sqrt(variance / count) if variance > 0 else 0.0
    return MatchedPairs(count, mean, math.sqrt(variance), z, two_sided(z))


def split_segments(utterance: PairedUtterance) -> Iterator[int]:
    """Errors of the first less those of the second in each segment.

    A segment opens with an error of either system and closes after two words in a row that both have right, or at the
    end of the utterance.
    """
    difference, is_open, right = 0, False, 0
    for first, second in zip(split_by_word(utterance.first), split_by_word(utterance.second), strict=True):
        errors = count_errors(first), count_errors(second)
        if any(errors):
            difference, is_open, right = difference + errors[0] - errors[1], True, 0
        if first.endswith("C") and second.endswith("C"):
            right += 1
        if is_open and right == BOUNDARY:
            yield difference
            difference, is_open = 0, False
    if is_open:
        yield difference


def split_by_word(recognition: str) -> list[str]:
    """Each word of the reference with the insertions before it, and those after the last word."""
    parts, inserted = [], ""
    for letter in recognition:
        inserted += letter
        if letter != "I":
            parts.append(inserted)
            inserted = ""
    return [*parts, inserted]


def sign_test(differences: Sequence[Fraction]) -> float:
    """p of the sign test on the speakers' differences in WER. Equal speakers are divided evenly between both signs, the
    odd one to the second."""
    first = sum(value > TIE for value in differences)
    second = sum(value < -TIE for value in differences)
    ties = len(differences) - first - second
    return binomial(min(first + ties // 2, second + ties - ties // 2), len(differences))


@dataclass(frozen=True)
class RankSum:
    """Wilcoxon's signed ranks; z is normal from about 8 speakers on."""

    z: float
    p: float


def wilcoxon(differences: Sequence[Fraction]) -> RankSum:
    """Wilcoxon's signed-rank test on the speakers' differences in WER; zeros count with plus and minus in turn.

    Equal differences share their mean rank. sc_stats gives them ranks by their rounding errors, but for zeros.
    """
    count = len(differences)
    if not count:
        return RankSum(0.0, 1.0)
    ranks = _rank([abs(value) for value in differences])
    zeros = 0
    positive = 0.0
    for value, rank in zip(differences, ranks, strict=True):
        zeros += value == 0
        if value > 0 or (value == 0 and zeros % 2):
            positive += rank
    total = count * (count + 1) / 2
    z = (min(positive, total - positive) - total / 2) / math.sqrt(total * (2 * count + 1) / 12)
    return RankSum(z, two_sided(z))


def _rank(values: Sequence[Fraction]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    ordered = sorted(values)
    return [(bisect.bisect_left(ordered, value) + bisect.bisect_right(ordered, value) + 1) / 2 for value in values]


def mcnemar(utterances: Iterable[PairedUtterance]) -> float:
    """p of McNemar's test, exact, on utterances that only one system has right."""
    right = [(not count_errors(pair.first), not count_errors(pair.second)) for pair in utterances]
    first, second = sum(a and not b for a, b in right), sum(b and not a for a, b in right)
    return binomial(min(first, second), first + second)


def binomial(fewer: int, count: int) -> float:
    """p of `fewer` or less extreme of `count` fair coins, on both sides; 1 where the sides are equal."""
    if 2 * fewer >= count:
        return 1.0
    return min(1.0, 2.0 * sum(math.comb(count, k) for k in range(fewer + 1)) / 2**count)


def two_sided(z: float) -> float:
    return 2.0 * (1.0 - NormalDist().cdf(abs(z)))


def speaker_differences(utterances: Iterable[PairedUtterance]) -> list[Fraction]:
    """WER of the first less that of the second, in percent, of each speaker that has words in the reference."""
    words: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for pair in utterances:
        words[pair.speaker] += pair.length
        errors[pair.speaker] += count_errors(pair.first) - count_errors(pair.second)
    return [Fraction(100 * errors[speaker], words[speaker]) for speaker in sorted(words) if words[speaker]]
