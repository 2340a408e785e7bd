"""What the checks of a preparation found: nothing is left out or changed without being counted and listed.

Each check has a rule: `drop` leaves the utterance out, `fix` changes it as said, `keep` only counts it, `fatal` ends
the preparation. The first rule of a check is its default; users may choose another of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from model.errors import UserError
from model.strict import unknown_name

Rule = Literal["drop", "fix", "keep", "fatal"]
EXAMPLES = 3  # findings of a check that are printed
PRINTED_CHARACTERS = 200  # of each of them


@dataclass(frozen=True)
class Check:
    """`meaning` completes "12 left out: ..."; the first of `rules` is the default."""

    meaning: str
    rules: tuple[Rule, ...]


CHECKS: dict[str, Check] = {
    "missing": Check("no such audio file", ("drop", "fatal")),
    "unreadable": Check("audio cannot be read", ("drop", "fatal")),
    "truncated": Check("audio ends before its header says", ("drop", "fatal")),
    "not-finite": Check("audio holds values that are no numbers, or beyond all scales", ("drop", "fatal")),
    "short": Check("audio shorter than 0.1 s", ("drop", "fatal")),
    "outside": Check("the segment lies outside its recording", ("drop", "fatal")),
    "beyond-end": Check("the segment ends after its recording, and was cut there", ("fix", "drop", "fatal")),
    "no-channel": Check("the recording lacks the channel", ("drop", "fatal")),
    "silent": Check("nothing is louder than -60 dB of full scale", ("drop", "keep", "fatal")),
    "clipped": Check("more than 1 % of the samples are at full scale", ("keep", "drop", "fatal")),
    "channels": Check("several channels, of which the mean was taken", ("fix", "drop", "fatal")),
    "rate": Check("a rate outside 8 to 48 kHz, resampled all the same", ("fix", "drop", "fatal")),
    "pipe": Check("the recording is the output of a command, which is not run", ("drop", "fatal")),
    "no-recording": Check("the source has no such recording", ("drop", "fatal")),
    "no-transcript": Check("a recording without a transcript", ("drop", "fatal")),
    "no-unicode": Check("id, text or speaker is no Unicode", ("drop", "fatal")),
    "no-text": Check("no text under the normaliser", ("drop", "fatal")),
    "dense": Check("more characters than CTC has frames, perhaps another's text", ("keep", "drop", "fatal")),
    "long": Check("longer than 30 s, which a training leaves out by default", ("keep", "drop", "fatal")),
    "same-audio": Check("the audio of another utterance again, sample for sample", ("keep", "drop", "fatal")),
    "same-id": Check("an id that another utterance has too", ("fatal", "drop")),
    "test-speaker": Check("its speaker is in a dev or test set too", ("keep", "drop", "fatal")),
    "test-sentence": Check("its sentence is in a dev or test set too", ("keep", "drop", "fatal")),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One utterance at one check: its `place` in the source, and what is particular to it."""

    check: str
    place: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.detail}" if self.detail else self.place


@dataclass
class Findings:
    """Findings by check, in the order in which they were met."""

    by_check: dict[str, list[Finding]] = field(default_factory=dict)

    def add(self, check: str, place: str, detail: str = "") -> None:
        self.by_check.setdefault(check, []).append(Finding(check, place, detail))

    def extend(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.by_check.setdefault(finding.check, []).append(finding)

    def count(self, check: str) -> int:
        return len(self.by_check.get(check, []))

    def lines(self, rules: Rules) -> list[str]:
        """A line for each check: how many utterances, what became of them, and the first of them."""
        return [
            f"{len(found)} {_BECAME[rules[check]]}: {CHECKS[check].meaning} ({_first(found)}) [{check}]"
            for check, found in self.by_check.items()
        ]

    def to_tsv(self, rules: Rules) -> str:
        """All of them, one on a line: check, rule, place, detail."""
        rows = [
            "\t".join(_plain(field) for field in (check, rules[check], finding.place, finding.detail))
            for check, found in self.by_check.items()
            for finding in found
        ]
        return "\n".join(["check\trule\tplace\tdetail", *rows]) + "\n"

    def refuse_fatal(self, rules: Rules, source: str) -> None:
        """Raise a UserError where a check is fatal and was not passed."""
        fatal = [check for check in self.by_check if rules[check] == "fatal"]
        if fatal:
            check, found = fatal[0], self.by_check[fatal[0]]
            others = [rule for rule in CHECKS[check].rules if rule != "fatal"]
            raise UserError(
                f"{source}: {len(found)} of its utterances: {CHECKS[check].meaning} ({_first(found)}); correct them, "
                f"or give --rule {check}={others[0]}"
            )


_BECAME: dict[Rule, str] = {"drop": "left out", "fix": "changed", "keep": "kept", "fatal": "refused"}


class Rules(Mapping[str, Rule]):
    """The rule of each check: the defaults, with others chosen. Raises a UserError for what cannot be chosen."""

    def __init__(self, chosen: Mapping[str, str] | None = None) -> None:
        self._rules: dict[str, Rule] = {check: about.rules[0] for check, about in CHECKS.items()}
        for check, rule in (chosen or {}).items():
            if check not in CHECKS:
                raise UserError(f"--rule names check '{check}'; {unknown_name(check, CHECKS)}")
            allowed = CHECKS[check].rules
            if rule not in allowed:
                raise UserError(f"--rule {check}={rule}: must be {check}={' or '.join(allowed)}")
            self._rules[check] = next(known for known in get_args(Rule) if known == rule)

    def __getitem__(self, check: str) -> Rule:
        return self._rules[check]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def parse_rules(given: Iterable[str]) -> Rules:
    """Rules from options `CHECK=RULE`."""
    pairs = [option.partition("=") for option in given]
    return Rules({check: rule for check, _, rule in pairs})


def _first(found: list[Finding]) -> str:
    examples = [_plain(str(finding)) for finding in found[:EXAMPLES]]
    shortened = [one if len(one) <= PRINTED_CHARACTERS else f"{one[:PRINTED_CHARACTERS]}..." for one in examples]
    return "; ".join(shortened) + ("; ..." if len(found) > EXAMPLES else "")


def _plain(text: str) -> str:
    """The text on one line, with escapes for what no terminal shows: a source may hold any character."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
