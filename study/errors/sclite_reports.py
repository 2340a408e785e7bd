"""sclite's reports: .sys, the figures of each speaker, and .dtl, those of everything with all word tables.

On the same alignments they are what sclite writes (`-o sum dtl`); study/errors/sclite.py says where alignments differ.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean, median, stdev

from study.errors.content import Content, Utterance
from study.errors.sclite import group_by_speaker
from study.errors.summary import count_words, order_counts

HEAD = "\n\n\n                     SYSTEM SUMMARY PERCENTAGES by SPEAKER                      \n\n"
PAGE = 80  # columns that the table is centred in
COLUMNS = " # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err "
NO_WORDS = (
    "\n* No Reference words for this/these speaker(s).  Word counts supplied\n  rather than percents.\n"
    "# No Reference words for this/these speaker(s).  NCE not computable.\n"
    "+ Speaker(s) with no reference data is ignored\n"
)
NOTES = {
    "SUBSTITUTIONS": (
        "* NOTE: The 'Substitution' words are those reference words\n"
        "        for which the recognizer supplied an incorrect word.\n"
    ),
    "FALSELY RECOGNIZED": (
        "* NOTE: The 'Falsely Recognized' words are those hypothesis words\n"
        "        which the recognizer incorrectly substituted for a reference word.\n"
    ),
}


class Sums:
    """What sclite counts over utterances."""

    def __init__(self, utterances: Sequence[Utterance], system: int) -> None:
        letters = [one.letters for one in (utterance.recognitions[system] for utterance in utterances) if one]
        self.sentences = len(letters)
        self.counts = {letter: sum(text.count(letter) for text in letters) for letter in "CSDI"}
        self.with_letter = {letter: sum(letter in text for text in letters) for letter in "SDI"}
        self.wrong = sum(bool(text.strip("C")) for text in letters)
        self.words = self.counts["C"] + self.counts["S"] + self.counts["D"]

    @property
    def errors(self) -> int:
        return self.counts["S"] + self.counts["D"] + self.counts["I"]

    def shares(self) -> list[float]:
        """Correct, S, D, I and errors in percent of the words; there have to be some."""
        return [100.0 * count / self.words for count in self.amounts()]

    def amounts(self) -> list[int]:
        """Correct, S, D, I and errors."""
        return [*self.counts.values(), self.errors]

    @property
    def wrong_share(self) -> float:
        return 100.0 * self.wrong / self.sentences if self.sentences else 0.0


def format_sys(content: Content, system: int) -> str:
    """A system's figures by speaker, with their sum, mean, standard deviation and median over the speakers."""
    sums = {name: Sums(ones, system) for name, ones in group_by_speaker(content, system).items()}
    whole = Sums(content.utterances, system)
    width = max([8, *(len(name) + 2 for name in sums)])  # of the first column
    rows = [_format_row(_left(name, width), one) for name, one in sums.items()]
    inner = width + 1 + len(COLUMNS)
    thin, thick = "-" * width + "+" + "-" * 13 + "+" + "-" * 41, "=" * inner
    title = content.systems[system].name[:inner]
    lines = ["," + "-" * inner + ".", f"|{title:^{inner}}|", f"|{'-' * inner}|", f"|{_left('SPKR', width)}|{COLUMNS}|"]
    for row in rows:
        lines += [f"|{thin}|", row]
    lines += [f"|{thick}|", _format_whole(_left("Sum/Avg", width), whole), f"|{thick}|"]
    statistics: dict[str, Callable[[Sequence[float]], float]] = {"Mean": fmean, "S.D.": _deviation, "Median": median}
    lines += [
        _format_statistic(f"{name:^{width}}", list(sums.values()), compute)
        for name, compute in statistics.items()
        if sums
    ]
    lines.append("`" + "-" * inner + "'")
    indent = " " * max(0, (PAGE - inner - 2) // 2)
    remark = "" if all(one.words for one in sums.values()) else NO_WORDS
    return HEAD + "".join(f"{indent}{line}\n" for line in lines) + remark


def _left(text: str, width: int) -> str:
    return f" {text}".ljust(width)


def _format_row(name: str, sums: Sums) -> str:
    return f"|{name}|{sums.sentences:5d} {sums.words:6d} |" + _format_rates(sums)


def _format_whole(name: str, sums: Sums) -> str:
    shares = sums.shares() if sums.words else [0.0] * 5
    return f"|{name}|{sums.sentences:5d} {sums.words:6d} |" + _format_shares(shares, sums.wrong_share)


def _format_rates(sums: Sums) -> str:
    """Percent, or where there is no word, counts with a star."""
    if sums.words:
        return _format_shares(sums.shares(), sums.wrong_share)
    first, *others = (f"{count}*" for count in sums.amounts())
    return f"{first:>6s}" + "".join(f"{count:>7s}" for count in others) + f"{round_up(sums.wrong_share):6.1f} |"


def _format_shares(shares: Sequence[float], wrong_share: float, mark: str = "") -> str:
    first, *others = (f"{round_up(share):.1f}{mark or ' '}" for share in shares)
    return f"{first:>6s}" + "".join(f"{share:>7s}" for share in others) + f"{round_up(wrong_share):6.1f} |"


def _format_statistic(name: str, sums: Sequence[Sums], compute: Callable[[Sequence[float]], float]) -> str:
    """Over the speakers; percentages of those alone that have words, which a plus says."""
    with_words = [one.shares() for one in sums if one.words]
    shares = [compute(column) for column in zip(*with_words, strict=True)] or [0.0] * 5
    sentences, words = (compute([float(getattr(one, what)) for one in sums]) for what in ("sentences", "words"))
    mark = "+" if len(with_words) < len(sums) else ""
    counts = f"{round_up(sentences):5.1f} {round_up(words):6.1f} |"
    return f"|{name}|{counts}" + _format_shares(shares, compute([one.wrong_share for one in sums]), mark)


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def round_up(value: float) -> float:
    """To a tenth; a half goes up, which formatting would send to the even digit."""
    return math.floor(value * 10.0 + 0.5) / 10.0


def format_dtl(content: Content, system: int) -> str:
    """A system's figures over everything, and all its word tables."""
    sums, tables = Sums(content.utterances, system), count_words(content.utterances, system)
    pairs = Counter({f"{one} ==> {other}": count for (one, other), count in tables.pairs.items()})
    substituted, recognised = Counter[str](), Counter[str]()
    for (reference, hypothesis), count in tables.pairs.items():
        substituted[reference] += count
        recognised[hypothesis] += count
    lists = [
        _format_list("CONFUSION PAIRS", pairs),
        _format_list("INSERTIONS", tables.insertions),
        _format_list("DELETIONS", tables.deletions),
        _format_list("SUBSTITUTIONS", substituted),
        _format_list("FALSELY RECOGNIZED", recognised),
    ]
    head = f"DETAILED OVERALL REPORT FOR THE SYSTEM: {content.systems[system].name}\n\n"
    return head + _format_sentences(sums) + _format_words(sums) + "".join(lists)[:-1]


def _format_sentences(sums: Sums) -> str:
    def line(name: str, count: int) -> str:
        share = round_up(100.0 * count / sums.sentences) if sums.sentences else 0.0
        return f" {name:39s}{share:5.1f}%   ({count:4d})\n"

    names = {"S": "  with substitions", "D": "  with deletions", "I": "  with insertions"}  # as sclite spells it
    return (
        f"SENTENCE RECOGNITION PERFORMANCE\n\n {'sentences':39s}{sums.sentences:14d}\n"
        + line("with errors", sums.wrong)
        + "\n"
        + "".join(line(name, sums.with_letter[letter]) for letter, name in names.items())
        + "\n\n"
    )


def _format_words(sums: Sums) -> str:
    correct, *edits, errors = [f"{round_up(share):.1f}" for share in sums.shares()] if sums.words else ["UNDEF"] * 5
    accuracy = f"{round_up(100.0 - 100.0 * sums.errors / sums.words):.1f}" if sums.words else "UNDEF"
    amounts = sums.amounts()
    hypothesis = sums.counts["C"] + sums.counts["S"] + sums.counts["I"]
    counts = {"Ref. words": sums.words, "Hyp. words": hypothesis, "Aligned words": sum(sums.counts.values())}
    names = ("Substitution", "Deletions", "Insertions")
    return (
        "WORD RECOGNITION PERFORMANCE\n\n"
        + _format_share("Total Error", errors, amounts[-1])
        + "\n"
        + _format_share("Correct", correct, amounts[0])
        + "\n"
        + "".join(_format_share(*line) for line in zip(names, edits, amounts[1:], strict=False))
        + f"{'Percent Word Accuracy':26s}=  {accuracy:>5s}%\n\n\n"
        + "".join(f"{name:26s}={'':11s}({count:4d})\n" for name, count in counts.items())
        + "\n"
    )


def _format_share(name: str, share: str, count: int) -> str:
    return f"{'Percent ' + name:26s}=  {share:>5s}%   ({count:4d})\n"


def _format_list(title: str, counts: Counter[str]) -> str:
    lines = [
        f"{title:32s} Total                 ({len(counts)})",
        f"{'':33s}With >=  1 occurrences ({len(counts)})",
        "",
    ]
    lines += [f"{number:4d}: {count:4d}  ->  {name}" for number, (name, count) in enumerate(order_counts(counts), 1)]
    lines += ["     -------", f"{counts.total():10d}", "", ""]
    return "\n".join(lines) + "\n" + (NOTES[title] + "\n\n" if title in NOTES else "\n")
