"""All events of a study, in their order: one append-only file a driver session.

events/000003.jsonl   the third session's; its number is the fencing number: a session only writes to its own file
events.jsonl          what versions before 0.2 wrote (format 1); read first, never written to

A session's first line seals the files before it: it records how many of their bytes count. A driver that was frozen,
replaced, and wakes up again appends to its own file after those bytes, which no reader reads. So it can neither change
what its successor has already folded nor overwrite its lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model.errors import UserError
from model.strict import sync_file, sync_folder
from study.ledger import event_file
from study.ledger.event_lines import UnknownKindError, from_line, to_line
from study.ledger.events import AnyEvent, SessionStarted

EVENTS, FORMAT_1 = "events", "events.jsonl"
_BLOCK = 5000  # events that `iterate` reads at a time


@dataclass(frozen=True)
class Position:
    """A place between two events: byte `offset` of the `index`-th event file."""

    index: int = 0
    offset: int = 0


class EventLog:
    """The event files of a study folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own: Path | None = None  # the file of this session

    @property
    def in_session(self) -> bool:
        """Whether `start_session` was called."""
        return self._own is not None

    def start_session(self, header: SessionStarted) -> SessionStarted:
        """Make this session's file, seal those before it, and return its header as it was written."""
        directory = self.folder / EVENTS
        directory.mkdir(exist_ok=True)
        sync_folder(self.folder)
        while True:
            files = self.files()
            for path in files:  # a killed driver's last line may not be on the disk yet, and is counted from now on
                sync_file(path)
            sealed = {path.name: event_file.whole_bytes(path) for path in files}
            header = header.model_copy(update={"sealed": sealed})
            own = directory / f"{_number(files[-1]) + 1 if files else 1:06d}.jsonl"
            try:
                event_file.create(own, to_line(header))
            except FileExistsError:  # another driver was quicker; the lease decides which of them continues
                continue
            self._own = own
            return header

    def append(self, event: AnyEvent) -> None:
        """Write an event to this session's file and wait until it is on the disk."""
        assert self._own is not None, "start_session comes first"
        event_file.append(self._own, to_line(event))

    def files(self) -> list[Path]:
        """The event files in their order, format 1 first."""
        old = self.folder / FORMAT_1
        files = [path for path in (self.folder / EVENTS).glob("*.jsonl") if path.stem.isdigit()]
        return [old] * old.is_file() + sorted(files, key=_number)

    def read_lines(self) -> dict[Path, list[bytes]]:
        """The lines of each event file that count, with their line ends."""
        files = self.files()
        ends = _ends(files)
        return {path: event_file.read_lines(path, 0, ends.get(path.name)) for path in files}

    def count_bytes(self, position: Position | None = None) -> dict[Path, int]:
        """How many bytes count of each event file, up to the position or of all that was written by now."""
        files = self.files()
        ends = _ends(files)
        before = files if position is None else files[: position.index]
        lengths = {path: ends.get(path.name, event_file.whole_bytes(path)) for path in before}
        if position is not None:
            lengths |= dict.fromkeys(files[position.index : position.index + 1], position.offset)
        return lengths

    def iterate(self) -> Iterator[AnyEvent]:
        """Every event, as `read` gives them, but never more than a few thousand at a time in memory."""
        position = Position()
        while True:
            events, position = self.read_since(position, _BLOCK)
            yield from events
            if not events:
                return

    def read(self) -> list[AnyEvent]:
        """Every event; a last line that a crash tore is left out, a damaged one is a UserError with its number."""
        return self.read_since(Position())[0]

    def read_since(self, position: Position, most: int | None = None) -> tuple[list[AnyEvent], Position]:
        """The events behind `position`, at most `most`, and the position behind the last one."""
        files = self.files()
        ends = _ends(files)
        events: list[AnyEvent] = []
        for index in range(position.index, len(files)):
            path, offset = files[index], position.offset if index == position.index else 0
            limit = None if most is None else most - len(events)
            lines = event_file.read_lines(path, offset, ends.get(path.name), limit)
            events += _parse(path, lines, offset)
            position = Position(index, offset + sum(map(len, lines)))
            if len(lines) == limit:
                break
            _check_length(path, position.offset, ends.get(path.name))
        return events, position


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0


def _ends(files: list[Path]) -> dict[str, int]:
    """How many bytes count of each file that a later session sealed. The headers are read from the last one back: one
    that was written behind its own file's seal does not count."""
    ends: dict[str, int] = {}
    for path in reversed(files):
        first = event_file.read_lines(path, 0, ends.get(path.name), 1)
        if not first or path.name == FORMAT_1:
            continue
        (header,) = _parse(path, first, 0)
        if isinstance(header, SessionStarted):
            for name, length in header.sealed.items():
                ends[name] = min(length, ends.get(name, length))
    return ends


def _check_length(path: Path, offset: int, end: int | None) -> None:
    if end is not None and offset < end:
        raise UserError(f"{path}: has {offset} whole bytes, but the session after it counted {end}; restore the file")


def _parse(path: Path, lines: list[bytes], offset: int) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    for index, line in enumerate(lines):
        try:
            events.append(from_line(line))
        except UnknownKindError as error:
            raise UserError(
                f"{path}: line {_line_number(path, offset, index)} is an event of kind '{error.kind}', which this "
                "version does not know; use the newer decred-study that wrote it"
            ) from None
        except ValueError:
            raise UserError(
                f"{path}: line {_line_number(path, offset, index)} is damaged; restore the file or remove the line"
            ) from None
    return events


def _line_number(path: Path, offset: int, index: int) -> int:
    return path.read_bytes()[:offset].count(b"\n") + index + 1
