"""Two systems compared on the sets that both have: their WERs, the difference with its interval, and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.corpora.normaliser import check_normaliser, normalise
from model.errors import UserError
from study.verdict.alignment import PairedUtterance, align_words, count_errors
from study.verdict.hypotheses import Hypothesis, HypothesisSet, read_hypotheses, read_sets
from study.verdict.paired_tests import matched_pairs, mcnemar, sign_test, speaker_differences, wilcoxon
from study.verdict.seed_effects import correct_by_holm

LEVEL = 0.95
RESAMPLES = 10_000
MIN_SPEAKERS = 5  # blocks of fewer speakers say nothing; utterances are resampled then
CONTENT = ("normaliser", "aligner")  # settings that make WERs of two systems figures of different things


@dataclass(frozen=True)
class Comparison:
    """The first system against the second on a set; WERs and their difference in percent, p values of the tests.

    `interval` is of the difference, by a bootstrap over `blocks`: speakers, or utterances where there are too few.
    `holm` is the p of the matched-pairs test, corrected for the number of sets.
    """

    set_name: str
    utterances: int
    words: int
    speakers: int
    first_wer: float
    second_wer: float
    interval: tuple[float, float]
    blocks: str
    segments: int
    z: float
    matched_pairs: float
    sign: float
    wilcoxon: float
    mcnemar: float
    holm: float = 1.0

    @property
    def difference(self) -> float:
        return self.first_wer - self.second_wer


def pair_sets(
    first: HypothesisSet, second: HypothesisSet, normaliser: str = "none", references: Mapping[str, str] | None = None
) -> list[PairedUtterance]:
    """The utterances of a set as both systems recognised them; a UserError where they are not of the same speech.

    `references` are those of utterances by id; without them the systems' own files have to have them.
    """
    ours, theirs = (normalise_hypotheses(one, normaliser) for one in (first, second))
    missing = sorted(ours.keys() ^ theirs.keys())
    if missing:
        raise UserError(
            f"{first.path} and {second.path} have different utterances ({len(missing)} are in one alone, such as "
            f"{missing[0]}); compare hypotheses of the same set"
        )
    paths = f"{first.path} and {second.path}"
    given = {key: normalise(normaliser, text) for key, text in (references or {}).items() if key in ours}
    return [_pair(key, ours[key], theirs[key], given.get(key), paths) for key in sorted(ours)]


def normalise_hypotheses(found: HypothesisSet, normaliser: str) -> dict[str, Hypothesis]:
    """The hypotheses and references under a normaliser. Those that were scored under it are so already.

    They stay as they are, because Whisper's normaliser can change its own text again.
    """
    if str(found.settings.get("normaliser", "")).split(" ")[0] == normaliser:
        return found.hypotheses
    return {
        key: replace(
            one,
            text=normalise(normaliser, one.text),
            reference=None if one.reference is None else normalise(normaliser, one.reference),
        )
        for key, one in found.hypotheses.items()
    }


def _pair(key: str, first: Hypothesis, second: Hypothesis, reference: str | None, paths: str) -> PairedUtterance:
    given = (first.reference, second.reference) if reference is None else (reference,)
    texts = sorted({text for text in given if text is not None})
    if not texts:
        raise UserError(f"{paths} have no reference of {key}; give --reference FILE.trn")
    if len(texts) > 1:
        raise UserError(
            f"{paths} have different references of {key}, '{texts[0]}' and '{texts[1]}'; compare hypotheses of the "
            "same corpus, or give --normaliser basic"
        )
    sides = (align_words(texts[0], side.text) for side in (first, second))
    return PairedUtterance(key, first.speaker or second.speaker or key, *sides)


def check_settings(first: HypothesisSet, second: HypothesisSet, any_decoding: bool = False) -> None:
    """A UserError where both are known to be scored, or without `any_decoding` to be decoded, in different ways."""
    for name in CONTENT:
        ours, theirs = first.settings.get(name), second.settings.get(name)
        if None not in (ours, theirs) and ours != theirs:
            raise UserError(
                f"{first.path} was scored with {name} {ours}, {second.path} with {theirs}; score both with the same"
            )
    ours, theirs = first.settings.get("decoding", {}), second.settings.get("decoding", {})
    if ours and theirs and not any_decoding:
        keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
        if keys:
            differing = ", ".join(f"{key} {ours.get(key)} and {theirs.get(key)}" for key in keys)
            raise UserError(
                f"{first.path} and {second.path} were decoded in different ways ({differing}); decode both alike, or "
                "give --any-decoding"
            )


def compare(set_name: str, pairs: Sequence[PairedUtterance]) -> Comparison:
    """The first system against the second on the utterances of a set."""
    words = sum(pair.length for pair in pairs)
    if not words:
        raise UserError(f"set '{set_name}' has no word in its references, so there is no WER")
    speakers = {pair.speaker for pair in pairs}
    by_speaker = len(speakers) >= MIN_SPEAKERS
    differences, segments = speaker_differences(pairs), matched_pairs(pairs)
    return Comparison(
        set_name=set_name,
        utterances=len(pairs),
        words=words,
        speakers=len(speakers),
        first_wer=100.0 * sum(count_errors(pair.first) for pair in pairs) / words,
        second_wer=100.0 * sum(count_errors(pair.second) for pair in pairs) / words,
        interval=bootstrap_interval(pairs, by_speaker),
        blocks="speakers" if by_speaker and len(speakers) < len(pairs) else "utterances",
        segments=segments.segments,
        z=segments.z,
        matched_pairs=segments.p,
        sign=sign_test(differences),
        wilcoxon=wilcoxon(differences).p,
        mcnemar=mcnemar(pairs),
    )


def bootstrap_interval(pairs: Sequence[PairedUtterance], by_speaker: bool, seed: int = 0) -> tuple[float, float]:
    """The percentile interval of the difference in WER, from resampled speakers (arXiv 1912.09508) or utterances.

    It is of these two models: utterances of a speaker are alike, so whole speakers are drawn where there are enough.
    """
    names = [pair.speaker if by_speaker else pair.id for pair in pairs]
    index = {name: number for number, name in enumerate(dict.fromkeys(names))}
    errors, words = np.zeros(len(index)), np.zeros(len(index))
    for name, pair in zip(names, pairs, strict=True):
        errors[index[name]] += count_errors(pair.first) - count_errors(pair.second)
        words[index[name]] += pair.length
    # How often each block is in each resample.
    counts = np.random.default_rng(seed).multinomial(len(index), np.full(len(index), 1 / len(index)), size=RESAMPLES)
    drawn = counts @ words
    differences = 100.0 * (counts @ errors)[drawn > 0] / drawn[drawn > 0]
    low, high = np.quantile(differences, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def compare_systems(
    first: Path,
    second: Path,
    normaliser: str = "none",
    reference: Path | None = None,
    any_decoding: bool = False,
) -> list[Comparison]:
    """The first system against the second, on each set that both have; p values are corrected for the number of sets.

    Each is the folder of a trial or a run, or a file with hypotheses. Raises a UserError where nothing can be compared.
    """
    check_normaliser(normaliser)
    ours, theirs = read_sets(first), read_sets(second)
    if len(ours) == len(theirs) == 1:  # the names of two files need not be the same
        theirs = dict(zip(ours, theirs.values(), strict=True))
    names = [name for name in ours if name in theirs]
    if not names:
        raise UserError(
            f"{first} has the sets {', '.join(ours)}, {second} has {', '.join(theirs)}; give two with a set in common"
        )
    texts = {key: found.text for key, found in read_hypotheses(reference).hypotheses.items()} if reference else None
    compared = []
    for name in names:
        check_settings(ours[name], theirs[name], any_decoding)
        compared.append(compare(name, pair_sets(ours[name], theirs[name], normaliser, texts)))
    corrected = correct_by_holm([comparison.matched_pairs for comparison in compared])
    return [replace(comparison, holm=p) for comparison, p in zip(compared, corrected, strict=True)]
