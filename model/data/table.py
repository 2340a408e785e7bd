"""A corpus from a table of recordings: a TSV file with the columns audio, text and, if wanted, speaker and set.

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
import soundfile

from model.data.audio import resampled
from model.data.corpus import Corpus, SetKind
from model.data.corpus_writer import Utterance, write_corpus
from model.data.normaliser import check_normaliser, normalise
from model.data.table_rows import Row, read_rows
from model.errors import UserError
from model.recipe.architecture import SAMPLE_RATE

SHORTEST_SECONDS = 0.1
DEV_SHARE = TEST_SHARE = 0.1
EXAMPLES = 3  # left-out rows that are named for each reason


@dataclass
class LeftOut:
    """The rows that are not in the corpus: what they are, by the reason why."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def add(self, row: Row, reason: str, detail: str = "") -> None:
        self.reasons.setdefault(reason, []).append(f"line {row.line}: {detail or row.audio.name}")

    @property
    def count(self) -> int:
        return sum(len(rows) for rows in self.reasons.values())

    def lines(self) -> list[str]:
        """One line a reason: how many rows, and the first of them."""
        return [f"{len(rows)} left out, {reason} ({_first(rows)})" for reason, rows in self.reasons.items()]


class Prepared(NamedTuple):
    """A new corpus, and what did not come into it."""

    corpus: Corpus
    left_out: LeftOut


def prepare_table(
    table: Path, out: Path, name: str | None = None, normaliser: str = "basic", seed: int = 0
) -> Prepared:
    """The recordings of `table` as a corpus in `out`, with 16 kHz mono copies of the audio.

    Rows without usable audio or text are left out and reported. A UserError if the table is no such table, names a
    recording twice, or leaves no train or no dev set; then nothing is written. `name` is by default the table's.
    """
    check_normaliser(normaliser)
    rows = read_rows(table)
    _check_apart(table, rows, out)
    left_out = LeftOut()
    placed: list[tuple[str, Row]] = []
    for row in rows:
        if normalise(normaliser, row.text).strip():
            placed.append((row.set_name or split_set(row.text, seed), row))
        else:
            left_out.add(row, f"no text under normaliser '{normaliser}'", repr(row.text))
    corpus = write_corpus(
        out,
        name or re.sub(r"[^A-Za-z0-9._-]+", "-", table.stem),
        normaliser,
        _kinds(table, placed, left_out),
        _utterances(table, placed, left_out),
        origin=f"table {table.name}, seed {seed}",
    )
    return Prepared(corpus, left_out)


def split_set(text: str, seed: int) -> str:
    """The set of a sentence, by its hash: spelling variants stay together, and more rows move no sentence."""
    digest = hashlib.sha256(f"{seed} {normalise('basic', text)}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < DEV_SHARE:
        return "dev"
    return "test" if place < DEV_SHARE + TEST_SHARE else "train"


def _kinds(table: Path, placed: list[tuple[str, Row]], left_out: LeftOut) -> dict[str, SetKind]:
    """The sets that have a row, train and dev first."""
    rows = Counter(set_name for set_name, _ in placed)
    if not rows:
        raise _none_usable(table, left_out)
    for needed in ("train", "dev"):
        if needed not in rows:
            raise UserError(
                f"{table}: no row falls into set '{needed}' ({', '.join(f'{n} in {s}' for s, n in rows.items())}); "
                "add rows, or a column 'set' that says train, dev or test for each row"
            )
    return {set_name: _kind(set_name) for set_name in sorted(rows, key=lambda s: (s != "train", s != "dev", s))}


def _kind(set_name: str) -> SetKind:
    if set_name == "train":
        return SetKind(role="train")
    if set_name == "dev":
        return SetKind(role="dev")
    return SetKind(role="test", domain="out" if set_name.startswith(("test-ood", "test-out")) else "in")


def _utterances(table: Path, placed: list[tuple[str, Row]], left_out: LeftOut) -> Iterator[Utterance]:
    written: Counter[str] = Counter()
    for set_name, row in placed:
        samples = _samples(row, left_out)
        if samples is not None:
            written[set_name] += 1
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", row.audio.stem)[:80]
            yield Utterance(set_name, f"{row.line:06d}-{name}", row.text, row.speaker, samples)
    if not written:
        raise _none_usable(table, left_out)
    for set_name, _ in placed:
        if not written[set_name]:
            raise UserError(
                f"{table}: set '{set_name}' has no usable row; {left_out.lines()[-1]}; mend them or add others"
            )


def _samples(row: Row, left_out: LeftOut) -> np.ndarray | None:
    """(T,) floats at 16 kHz, the mean of all channels; None if the recording is left out."""
    if not row.audio.is_file():
        left_out.add(row, "no such audio file")
        return None
    try:
        channels, rate = soundfile.read(row.audio, dtype="float64", always_2d=True)  # (T, C)
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: headerless files need a rate
        left_out.add(row, "audio cannot be read", f"{row.audio.name}, {' '.join(str(error).split())}")
        return None
    if not np.isfinite(channels).all():
        left_out.add(row, "audio holds values that are no numbers")
        return None
    if len(channels) < SHORTEST_SECONDS * rate:
        left_out.add(row, f"audio shorter than {SHORTEST_SECONDS} s")
        return None
    samples = channels.mean(axis=1)
    return samples if rate == SAMPLE_RATE else resampled(samples, rate)


def _check_apart(table: Path, rows: list[Row], out: Path) -> None:
    """Replacing a corpus must not delete what the new one is made from."""
    folder = Path(os.path.abspath(out))
    inside = [path for path in (Path(os.path.abspath(table)), *(row.audio for row in rows)) if folder in path.parents]
    if inside:
        raise UserError(f"{inside[0]} lies inside the corpus folder {out}; give another --out")


def _none_usable(table: Path, left_out: LeftOut) -> UserError:
    return UserError(f"{table}: none of its {left_out.count} rows is usable; {'; '.join(left_out.lines())}")


def _first(rows: list[str]) -> str:
    return "; ".join(rows[:EXAMPLES]) + ("; ..." if len(rows) > EXAMPLES else "")
