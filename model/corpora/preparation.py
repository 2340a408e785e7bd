"""Preparing a corpus from a source: sets, checks of every utterance, manifests. It goes on where it was stopped.

The draft lies beside the corpus folder until the corpus is whole. Audio is left where it is, or copied as 16 kHz mono
FLAC. The work is divided into parts, which `run_parts` hands to processes of this machine, or of others.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from model.corpora.corpus import Corpus, SetKind, read_corpus
from model.corpora.corpus_writer import assemble, check_replaceable, publish, recover, unwritable
from model.corpora.findings import Findings, Rules
from model.corpora.normaliser import check_normaliser
from model.corpora.parts import CheckedSegment, Part, check_part, divide
from model.corpora.selection import check_sets, explain, select_usable
from model.corpora.sets import choose_kinds, divide_into_sets, kind_of
from model.corpora.source import Segment, Source, is_unicode
from model.errors import UserError
from model.runtime.progress import note_progress
from model.strict import make_folders, replace_file

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
    segments, kinds = _place(source, settings)
    if not settings.copies:
        _check_plain(segments, source.origin)
    folder = _resolve(out)
    draft = folder.parent / f".{folder.name}.draft"
    parts = divide(segments, settings.normaliser, settings.copies, draft)
    findings = Findings()
    findings.extend(found for checks in source.findings.by_check.values() for found in checks)
    try:
        with _locked(draft, out):
            recover(folder, draft)
            check_replaceable(out, name)
            _check_apart(source, out)
            try:
                _check_all(parts, run_parts, progress)
                usable = list(select_usable(parts, findings, settings.rules, source))
                check_sets(source, kinds, segments, usable, findings, settings.rules)
                _remove_all_but(draft, "audio", "parts")  # of a draft that was killed later than here
                assemble(draft, name, settings.normaliser, kinds, usable, source.origin)
                replace_file(draft / FINDINGS_FILE, findings.to_tsv(settings.rules))
                publish(folder, draft)
                _remove_unused(folder, usable)
            finally:
                if len(parts) == 1:
                    shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise unwritable(out, error) from None
    return Prepared(read_corpus(out), findings, findings.lines(settings.rules))


def _resolve(out: Path) -> Path:
    """The folder itself where `out` is a link to it: its draft lies on the same disk."""
    try:
        return out.resolve()
    except RuntimeError:
        raise UserError(f"corpus {out}: is a link to itself; give another --out") from None


def _place(source: Source, settings: Preparation) -> tuple[list[Segment], dict[str, SetKind]]:
    """The segments of the sets that are kept, each with its set, and the kinds of these sets."""
    because = explain(source.findings, settings.rules)
    if not source.segments:
        raise UserError(f"{source.origin}: has no utterance that can be used{because}")
    segments = divide_into_sets(_undivided(source, settings), settings.seed)
    names = Counter(str(segment.set_name) for segment in segments)
    given = source.sets if len(source.sets) > 1 else ()  # of a single one others may have been made
    kinds = choose_kinds([*given, *names], settings.kinds, source.origin)
    if not kinds:
        raise UserError(f"{source.origin}: all of its sets are left out; leave in one at least")
    for name in kinds:
        if not names[name]:
            raise UserError(
                f"{source.origin}: set '{name}' has no utterance that can be used{because}; correct it, or leave it "
                f"out with --set {name}=none"
            )
    return [segment for segment in segments if segment.set_name in kinds], kinds


def _undivided(source: Source, settings: Preparation) -> Sequence[Segment]:
    """The segments, without their set where that is the only one and is neither to score nor chosen by the user."""
    names = {*source.sets, *(segment.set_name for segment in source.segments)}
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
    if not folder.exists():
        return
    for file in dict.fromkeys([*source.files, *(segment.audio.file for segment in source.segments)]):
        if folder in Path(os.path.realpath(file)).parents:
            raise UserError(f"{file} lies inside the corpus folder {out}; give another --out")


def _check_plain(segments: Iterable[Segment], origin: str) -> None:
    """Raise a UserError where audio that is to stay in its place is no file of its own with a name."""
    for segment in segments:
        if not segment.audio.is_plain:
            raise UserError(
                f"{origin}: audio in {segment.audio.file} lies in archives, which training cannot read in place; leave "
                "out --no-copy"
            )
        if not is_unicode(segment.audio.file):
            raise UserError(
                f"{origin}: the name of {segment.audio.file!a} is not UTF-8, as those in a manifest must be; leave out "
                "--no-copy"
            )


@contextmanager
def _locked(draft: Path, out: Path) -> Iterator[None]:
    """The right of one process to prepare `out`, given back when that process ends, however it does."""
    path = draft.with_name(f"{draft.name}.lock")
    make_folders(path.parent)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"corpus {out}: is being prepared by another process; wait for it, or give another --out"
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before it is given back: nobody has a lock of this name by then
        lock.release()


def _check_all(parts: Sequence[Part], run_parts: RunParts, progress: Progress) -> None:
    """Check all parts; those whose result is there cost nothing."""
    left = [part for part in parts if not part.result.is_file()]
    total = sum(len(part.segments) for part in parts)
    done = total - sum(len(part.segments) for part in left)
    progress(done, total)
    for count in run_parts(check_part, left):
        note_progress()
        done += count
        progress(done, total)


def _remove_unused(corpus: Path, usable: Iterable[CheckedSegment]) -> None:
    """Remove what a new corpus does not need: results of parts, copies of utterances that were left out.

    Only now, because a draft that lacks them would have to be made again.
    """
    shutil.rmtree(corpus / "parts")
    used = {one.audio.file for one in usable}
    for folder, _, names in os.walk(corpus / "audio", topdown=False):
        for name in names:
            path = Path(folder, name)
            if path.relative_to(corpus).as_posix() not in used:
                path.unlink()
            note_progress()
        if not any(Path(folder).iterdir()):
            Path(folder).rmdir()


def _remove_all_but(draft: Path, *names: str) -> None:
    for path in draft.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
