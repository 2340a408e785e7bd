"""A corpus from a table of recordings: a TSV file with the columns audio, text and, optionally, speaker and set.

`audio` is a path, absolute or relative to the table's folder. `set` is train, dev, test or a name that starts with
`test-`; names that start with `test-ood` or `test-out` are out-of-domain test sets. Without that column, the
sentences are split 80 / 10 / 10 into train, dev and test.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model.corpora.audio import AudioError, check_audio_file, read_audio
from model.corpora.corpus import Corpus, SetKind
from model.corpora.corpus_writer import Utterance, write_corpus
from model.corpora.normaliser import check_normaliser, normalise
from model.corpora.table_rows import Row, read_rows
from model.errors import UserError

DEV_SHARE = TEST_SHARE = 0.1
EXAMPLES = 3  # skipped rows that are named for each reason


@dataclass
class SkippedRows:
    """The rows that are not in the corpus, each with its line, by the reason why."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def add(self, row: Row, reason: str, detail: str) -> None:
        self.reasons.setdefault(reason, []).append(f"line {row.line}: {detail}")

    def add_audio(self, row: Row, error: AudioError) -> None:
        self.add(row, error.reason, ", ".join(filter(None, (row.audio.name, error.detail))))

    @property
    def count(self) -> int:
        return sum(len(rows) for rows in self.reasons.values())

    def lines(self) -> list[str]:
        """A line for each reason: how many rows, and the first of them."""
        return [
            f"{len(rows)} row{'s' if len(rows) > 1 else ''} skipped, {reason} ({_first(rows)})"
            for reason, rows in self.reasons.items()
        ]


class PreparedTable(NamedTuple):
    """A new corpus, and the rows that are not in it."""

    corpus: Corpus
    skipped: SkippedRows


def prepare_table(
    table: Path, out: Path, name: str | None = None, normaliser: str = "basic", seed: int = 0
) -> PreparedTable:
    """The recordings of `table` as a corpus in `out`, with 16 kHz mono copies of the audio.

    Rows without usable audio or text are skipped and reported. Raises a UserError, and writes nothing, if the table is
    malformed, names a recording twice, or leaves no train or no dev set. `name` is by default the table's.
    """
    check_normaliser(normaliser)
    rows = read_rows(table)
    _check_apart(table, rows, out)
    skipped = SkippedRows()
    usable = [row for row in rows if _is_usable(row, normaliser, skipped)]
    placed = [(row.set_name or choose_set(row.text, seed), row) for row in usable]
    corpus = write_corpus(
        out,
        name or re.sub(r"[^A-Za-z0-9._-]+", "-", table.stem),
        normaliser,
        _set_kinds(table, placed, skipped),
        _read_utterances(table, placed, skipped),
        origin=f"table {table.name}, seed {seed}",
    )
    return PreparedTable(corpus, skipped)


def choose_set(text: str, seed: int) -> str:
    """The set of a sentence, by its hash: spelling variants stay together, and more rows move no sentence."""
    digest = hashlib.sha256(f"{seed} {normalise('basic', text)}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < DEV_SHARE:
        return "dev"
    return "test" if place < DEV_SHARE + TEST_SHARE else "train"


def _is_usable(row: Row, normaliser: str, skipped: SkippedRows) -> bool:
    """Whether the row has text and audio, as far as the file's header shows; it is added to `skipped` if not.

    Files are checked before rows are divided into sets, so that an empty set is never reported where the audio is
    what is missing.
    """
    if not normalise(normaliser, row.text).strip():
        skipped.add(row, f"no text under normaliser '{normaliser}'", repr(row.text))
        return False
    try:
        check_audio_file(row.audio)
    except AudioError as error:
        skipped.add_audio(row, error)
        return False
    return True


def _set_kinds(table: Path, placed: list[tuple[str, Row]], skipped: SkippedRows) -> dict[str, SetKind]:
    """The sets that have a row, train and dev first."""
    rows = Counter(set_name for set_name, _ in placed)
    if not rows:
        raise _none_usable(table, skipped)
    for needed in ("train", "dev"):
        if needed not in rows:
            counts = [f"{count} in {set_name}" for set_name, count in rows.items()]
            raise UserError(
                f"{table}: no row falls into set '{needed}' ({'; '.join([', '.join(counts), *skipped.lines()])}); "
                "add rows, or a column 'set' that is train, dev or test in each row"
            )
    ordered = sorted(rows, key=lambda set_name: (set_name != "train", set_name != "dev", set_name))
    return {set_name: _set_kind(set_name) for set_name in ordered}


def _set_kind(set_name: str) -> SetKind:
    if set_name == "train":
        return SetKind(role="train")
    if set_name == "dev":
        return SetKind(role="dev")
    return SetKind(role="test", domain="out" if set_name.startswith(("test-ood", "test-out")) else "in")


def _read_utterances(table: Path, placed: list[tuple[str, Row]], skipped: SkippedRows) -> Iterator[Utterance]:
    written: Counter[str] = Counter()
    for set_name, row in placed:
        samples = _read_samples(row, skipped)
        if samples is not None:
            written[set_name] += 1
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", row.audio.stem)[:80]
            yield Utterance(set_name, f"{row.line:06d}-{name}", row.text, row.speaker, samples)
    if not written:
        raise _none_usable(table, skipped)
    for set_name, _ in placed:
        if not written[set_name]:
            reasons = "; ".join(skipped.lines())
            raise UserError(f"{table}: set '{set_name}' has no usable row; {reasons}; correct them or add others")


def _read_samples(row: Row, skipped: SkippedRows) -> np.ndarray | None:
    """(T,) floats at 16 kHz, the mean of all channels; None if the recording is skipped."""
    try:
        return read_audio(row.audio)
    except AudioError as error:
        skipped.add_audio(row, error)
        return None


def _check_apart(table: Path, rows: list[Row], out: Path) -> None:
    """Raise a UserError where replacing the corpus in `out` would delete what the new one is made from."""
    folder = Path(os.path.abspath(out))
    inside = [path for path in (Path(os.path.abspath(table)), *(row.audio for row in rows)) if folder in path.parents]
    if inside:
        raise UserError(f"{inside[0]} lies inside the corpus folder {out}; give another --out")


def _none_usable(table: Path, skipped: SkippedRows) -> UserError:
    return UserError(f"{table}: none of its {skipped.count} rows is usable; {'; '.join(skipped.lines())}")


def _first(rows: list[str]) -> str:
    return "; ".join(rows[:EXAMPLES]) + ("; ..." if len(rows) > EXAMPLES else "")
