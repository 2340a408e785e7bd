"""What the events of a long study fold to, beside its event files, so that they need not be read whole each time.

The event files stay the only truth. The cache says of which bytes it is the fold, by their hash, and is used where the
files still begin with these; then only what was written since is read. A cache that is missing, torn, of other bytes or
of another version is ignored, and one that cannot be written is no error: the event files are then read whole.

fold.cache    one line of JSON (by which version, of which bytes of which files, lengths and hash of the rest), the rest
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from model.strict import replace_file
from study.ledger.event_log import EventLog, Position
from study.ledger.fold_state import Packed, pack, unpack
from study.ledger.trials import Trials

CACHE = "fold.cache"
LEAST_BYTES = 4_000_000  # of lines that were folded since the last cache: they are read in a tenth of a second
_BLOCK = 5000  # events that are read at a time
_READ = 1 << 18  # bytes that are hashed at a time


@dataclass(frozen=True)
class Fold:
    """The fold of the events before a position."""

    trials: Trials
    position: Position


def read_fold(log: EventLog) -> Fold:
    """The fold of all events; it is kept where that saves the next reader a lot. A damaged line is a UserError."""
    cached = _load(log)
    trials, position = (Trials(), Position()) if cached is None else (cached.trials, cached.position)
    while True:
        events, position = log.read_since(position, _BLOCK)
        if not events:
            break
        for event in events:
            trials.apply(event)
    fold = Fold(trials, position)
    _save_if_longer(log, fold, None if cached is None else cached.position)
    return fold


def keep_fold(log: EventLog, trials: Trials) -> None:
    """Write the cache for the driver's own trials, so that whoever reads the study next need not read it whole."""
    lengths = log.count_bytes()
    if sum(lengths.values()) >= LEAST_BYTES:
        _save(log, trials, lengths)


def _save_if_longer(log: EventLog, fold: Fold, before: Position | None) -> None:
    lengths = log.count_bytes(fold.position)
    known = 0 if before is None else sum(log.count_bytes(before).values())
    if sum(lengths.values()) - known >= LEAST_BYTES:
        _save(log, fold.trials, lengths)


def _save(log: EventLog, trials: Trials, lengths: dict[Path, int]) -> None:
    """Keep the fold of these bytes, unless they hold another number of events: a session may begin at any time, and cut
    what was read of the files before its own."""
    digest, lines = _hash_files(lengths)
    if lines != trials.applied:
        return
    packed = pack(trials)
    body = packed.content + packed.figures + packed.tried
    header = {
        "version": _fingerprint_code(),
        "files": [[path.name, length] for path, length in lengths.items()],
        "events": digest,
        "parts": [len(packed.content), len(packed.figures)],
        "body": hashlib.sha256(body).hexdigest(),
    }
    with contextlib.suppress(OSError):  # a folder that is read-only or of another user, a full disk
        replace_file(log.folder / CACHE, json.dumps(header).encode() + b"\n" + body)


def _load(log: EventLog) -> Fold | None:
    try:
        first, _, body = (log.folder / CACHE).read_bytes().partition(b"\n")
        header: dict[str, Any] = json.loads(first)
        lengths = _match_files(log, header["files"]) if header["version"] == _fingerprint_code() else None
        if lengths is None or hashlib.sha256(body).hexdigest() != header["body"]:
            return None
        if _hash_files(lengths)[0] != header["events"]:
            return None
        content, figures = header["parts"]
        trials = unpack(Packed(body[:content], body[content : content + figures], body[content + figures :]))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return Fold(trials, Position(len(lengths) - 1, list(lengths.values())[-1]))


def _match_files(log: EventLog, files: list[tuple[str, int]]) -> dict[Path, int] | None:
    """The files of a cache with their bytes, where the study still has these, in this order, and they count."""
    whole = log.count_bytes()
    *before, last = [(path, whole[path]) for path in list(whole)[: len(files)]]
    if [path.name for path, _ in (*before, last)] != [name for name, _ in files]:
        return None
    if [length for _, length in before] != [length for _, length in files[:-1]] or files[-1][1] > last[1]:
        return None
    return dict(before) | {last[0]: files[-1][1]}


def _hash_files(lengths: dict[Path, int]) -> tuple[str, int]:
    """The hash of so many bytes of each file, and how many lines they are."""
    digest, lines, block = hashlib.sha256(), 0, bytearray(_READ)
    for path, left in lengths.items():
        with path.open("rb", buffering=0) as file:
            while left and (count := file.readinto(memoryview(block)[: min(left, _READ)])):
                digest.update(memoryview(block)[:count])
                lines += block.count(b"\n", 0, count)
                left -= count
    return digest.hexdigest(), lines


@cache
def _fingerprint_code() -> str:
    """Of all that decides what events fold to; also of the byte order of figures."""
    digest = hashlib.sha256(f"{sys.byteorder} {sys.version_info[:2]}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
