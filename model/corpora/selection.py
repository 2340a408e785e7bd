"""Which checked segments a corpus takes: what rules leave out, what is there twice, what training shares with tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from model.corpora.corpus import SetKind
from model.corpora.findings import Finding, Findings, Rules
from model.corpora.parts import CheckedSegment, Part, read_part
from model.corpora.source import Segment, Source
from model.errors import UserError


def select_usable(parts: Iterable[Part], findings: Findings, rules: Rules, source: Source) -> Iterator[CheckedSegment]:
    """The checked segments that no rule leaves out; all findings are added to `findings`."""
    ids: dict[str, str] = {}
    audio: dict[str, str] = {}
    for part in parts:
        for one in read_part(part):
            found = list(one.findings)
            if one.id in ids:
                found.append(Finding("same-id", one.place, f"{one.id}, as {ids[one.id]}"))
            ids.setdefault(one.id, one.place)
            if one.digest and one.digest in audio:
                found.append(Finding("same-audio", one.place, f"as {audio[one.digest]}"))
            audio.setdefault(one.digest, one.place)
            findings.extend(found)
            if one.samples and not any(rules[finding.check] == "drop" for finding in found):
                yield one
    findings.refuse_fatal(rules, source.origin)


def check_sets(
    source: Source,
    kinds: Mapping[str, SetKind],
    segments: Sequence[Segment],
    usable: list[CheckedSegment],
    findings: Findings,
    rules: Rules,
) -> None:
    """Find what training shares with the sets that score it, and refuse a set without utterances."""
    scored = [one for one in usable if kinds[one.set_name].role != "train"]
    speakers = {one.speaker for one in scored if one.speaker is not None}
    texts = {one.text for one in scored}
    shared: set[int] = set()
    for index, one in enumerate(usable):
        if kinds[one.set_name].role != "train":
            continue
        for check, is_shared, detail in (
            ("test-speaker", one.speaker in speakers, str(one.speaker)),
            ("test-sentence", one.text in texts, one.text),
        ):
            if is_shared:
                findings.add(check, one.place, detail)
                if rules[check] == "drop":
                    shared.add(index)
    findings.refuse_fatal(rules, source.origin)
    usable[:] = [one for index, one in enumerate(usable) if index not in shared]
    counts = Counter(one.set_name for one in usable)
    because = explain(findings, rules)
    for name in kinds:
        if not counts[name]:
            asked = sum(segment.set_name == name for segment in segments)
            raise UserError(
                f"{source.origin}: none of the {asked} utterances of set '{name}' can be used{because}; correct them, "
                f"or leave the set out with --set {name}=none"
            )


def explain(findings: Findings, rules: Rules) -> str:
    lines = findings.lines(rules)
    return f" ({'; '.join(lines)})" if lines else ""
