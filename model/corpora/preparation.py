"""Preparing a corpus from a source: sets, checks of every utterance, manifests. It goes on where it was stopped.

The draft lies beside the corpus folder until the corpus is whole. Audio is left where it is, or copied as 16 kHz mono
FLAC. The work is divided into parts, which `run_parts` hands to processes of this machine, or of others.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from model.corpora.corpus import Corpus, SetKind, read_corpus
from model.corpora.corpus_writer import assemble, check_replaceable, publish, unwritable
from model.corpora.findings import Finding, Findings, Rules
from model.corpora.normaliser import check_normaliser
from model.corpora.parts import CheckedSegment, Part, check_part, divide, read_part
from model.corpora.sets import choose_kinds, divide_into_sets, kind_of
from model.corpora.source import Segment, Source
from model.errors import UserError
from model.strict import write_atomically

FINDINGS_FILE = "findings.tsv"

RunParts = Callable[[Callable[[Part], int], Sequence[Part]], Iterable[int]]
Progress = Callable[[int, int], None]  # utterances checked, of all


@dataclass(frozen=True)
class Preparation:
    """How a source becomes a corpus. `kinds` are those of sets that the user has given, None for one left out."""

    name: str | None = None  # by default the source's
    normaliser: str = "basic"
    seed: int = 0  # of the division into sets, where the source names none
    copies: bool = True
    kinds: Mapping[str, SetKind | None] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True)
class Prepared:
    """A new corpus, and what its checks found; `lines` says it in words."""

    corpus: Corpus
    findings: Findings
    lines: list[str]


def run_here(function: Callable[[Part], int], parts: Sequence[Part]) -> Iterator[int]:
    """One part after the other, in this process."""
    return map(function, parts)


def prepare_corpus(
    source: Source,
    out: Path,
    settings: Preparation,
    run_parts: RunParts = run_here,
    progress: Progress = lambda done, total: None,
) -> Prepared:
    """The source as a corpus in `out`, with all findings in its `findings.tsv`.

    Raises a UserError, one line, where the source cannot be used, a fatal check is not passed, or a set that is needed
    has no utterance. What was checked until then is kept beside `out` and not done again, unless it is a single part.
    """
    check_normaliser(settings.normaliser)
    name = settings.name or source.name
    check_replaceable(out, name)
    _check_apart(source, out)
    segments, kinds = _place(source, settings)
    if not settings.copies:
        _check_plain(segments, source.origin)
    draft = out.resolve().parent / f".{out.name}.draft"
    parts = divide(segments, settings.normaliser, settings.copies, draft)
    kept = len(parts) > 1
    try:
        with _lock(draft, out):
            _check_all(parts, run_parts, progress)
            findings = Findings()
            findings.extend(found for checks in source.findings.by_check.values() for found in checks)
            usable = list(_select(parts, findings, settings.rules, source))
            _check_sets(source, kinds, segments, usable, findings, settings)
            assemble(draft, name, settings.normaliser, kinds, usable, source.origin)
            write_atomically(draft / FINDINGS_FILE, findings.to_tsv(settings.rules))
            _remove_unused(draft, usable)
        publish(out, draft)
        kept = False
    except OSError as error:
        raise unwritable(out, error) from None
    finally:
        if not kept:
            shutil.rmtree(draft, ignore_errors=True)
    return Prepared(read_corpus(out), findings, findings.lines(settings.rules))


def _place(source: Source, settings: Preparation) -> tuple[list[Segment], dict[str, SetKind]]:
    """The segments of the sets that are kept, each with its set, and the kinds of these sets."""
    if not source.segments:
        raise UserError(f"{source.origin}: has no utterance that can be used{_because(source.findings, settings)}")
    segments = divide_into_sets(_undivided(source, settings), settings.seed)
    names = Counter(str(segment.set_name) for segment in segments)
    kinds = choose_kinds(names, settings.kinds, source.origin)
    return [segment for segment in segments if segment.set_name in kinds], kinds


def _undivided(source: Source, settings: Preparation) -> Sequence[Segment]:
    """The segments, without their set where that is the only one and is neither to score nor chosen by the user."""
    names = {segment.set_name for segment in source.segments}
    name = next(iter(names))
    if not source.is_divisible or len(names) > 1 or name is None or name in settings.kinds:
        return source.segments
    kind = kind_of(name)
    if kind is not None and kind.role != "train":
        return source.segments
    return [replace(segment, set_name=None) for segment in source.segments]


def _check_apart(source: Source, out: Path) -> None:
    """Raise a UserError where replacing the corpus in `out` would delete what the new one is made from."""
    folder = out.resolve()
    for file in dict.fromkeys([*source.files, *(segment.audio.file for segment in source.segments)]):
        if folder in Path(file).parents:
            raise UserError(f"{file} lies inside the corpus folder {out}; give another --out")


def _check_plain(segments: Iterable[Segment], origin: str) -> None:
    """Raise a UserError where audio that is to stay in its place is no file of its own."""
    for segment in segments:
        if not segment.audio.is_plain:
            raise UserError(
                f"{origin}: audio in {segment.audio.file} lies in archives, which training cannot read in place; leave "
                "out --no-copy"
            )


def _lock(draft: Path, out: Path) -> FileLock:
    """The right of one process to prepare `out`, given back when that process ends, however it does."""
    draft.mkdir(parents=True, exist_ok=True)
    lock = FileLock(draft / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"corpus {out}: is being prepared by another process; wait for it, or give another --out"
        ) from None
    return lock


def _check_all(parts: Sequence[Part], run_parts: RunParts, progress: Progress) -> None:
    """Check all parts; those whose result is there cost nothing."""
    left = [part for part in parts if not part.result.is_file()]
    total = sum(len(part.segments) for part in parts)
    done = total - sum(len(part.segments) for part in left)
    progress(done, total)
    for count in run_parts(check_part, left):
        done += count
        progress(done, total)


def _select(parts: Iterable[Part], findings: Findings, rules: Rules, source: Source) -> Iterator[CheckedSegment]:
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


def _check_sets(
    source: Source,
    kinds: dict[str, SetKind],
    segments: Sequence[Segment],
    usable: list[CheckedSegment],
    findings: Findings,
    settings: Preparation,
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
                if settings.rules[check] == "drop":
                    shared.add(index)
    findings.refuse_fatal(settings.rules, source.origin)
    usable[:] = [one for index, one in enumerate(usable) if index not in shared]
    counts = Counter(one.set_name for one in usable)
    because = _because(findings, settings)
    for name in kinds:
        if not counts[name]:
            asked = sum(segment.set_name == name for segment in segments)
            raise UserError(
                f"{source.origin}: none of the {asked} utterances of set '{name}' can be used{because}; correct them, "
                f"or leave the set out with --set {name}=none"
            )


def _because(findings: Findings, settings: Preparation) -> str:
    lines = findings.lines(settings.rules)
    return f" ({'; '.join(lines)})" if lines else ""


def _remove_unused(draft: Path, usable: Iterable[CheckedSegment]) -> None:
    """Remove what the corpus does not need: results of parts, copies of utterances that were left out."""
    shutil.rmtree(draft / "parts")
    (draft / "lock").unlink(missing_ok=True)
    used = {one.audio.file for one in usable}
    for path in (draft / "audio").rglob("*.flac"):
        if path.relative_to(draft).as_posix() not in used:
            path.unlink()
    for folder in sorted((draft / "audio").glob("*"), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
