"""The workers of a trial as its driver sees them: a recipe goes in, reports and one end come out.

`Crew` follows what the workers send; where they are, and how messages reach them, is for `InProcess` (one worker, a
thread of the driver's own process) and `study.workers.group.Group` (standing processes under Ray Train).
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from pathlib import Path

from model.runtime.stacks import STACKS_FILE, find_place, save_stacks
from model.runtime.stall import StallWatch
from study.workers.failure import Failure, FailureKind
from study.workers.messages import (
    Answer,
    Done,
    Failed,
    Interrupt,
    Interrupted,
    Progress,
    Report,
    Running,
    Stacks,
    Task,
    ToDriver,
    ToWorker,
)
from study.workers.stacks import choose_rank

# A rank whose peer died or failed only sees its connection close; the peer's own error is the one worth reading.
_ECHO = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket|DistBackendError", re.IGNORECASE)
GATHER_SECONDS = 1.0  # for the other workers' errors, when the first one failed
LOSS_SECONDS = 4.0  # for the news which worker it was whose death the others echo
STOP_SECONDS = 5.0  # for workers to leave a training that was stopped


class Crew(ABC):
    """`count` workers that train one recipe after the other. Not for several threads."""

    def __init__(
        self,
        count: int,
        stall_seconds: float | None = None,
        start_seconds: float = 0.0,
        stall_epochs: float | None = None,
    ) -> None:
        """Workers without progress for `stall_seconds` are ended; None: they are waited for without a limit.

        The first sign of it may take `start_seconds`, any other one `stall_epochs` times their usual epoch.
        """
        self.count = count
        self.usable = True  # whether it can take another recipe
        self.holds_process = False  # whether a worker hangs that only ends with this process
        self._hash = self._folder = ""
        self._watch = StallWatch(stall_seconds, start_seconds, epochs=stall_epochs)
        self._latest: dict[int, ToDriver] = {}  # rank -> its last message, once it waits for an answer or has ended
        self._busy = False
        self._ranks: dict[int, Running] = {}  # where each of them runs

    @property
    def node_ids(self) -> set[str]:
        """Ray's ids of the nodes on which workers have run so far."""
        return {running.node_id for running in self._ranks.values() if running.node_id}

    @property
    @abstractmethod
    def has_started(self) -> bool:
        """Whether all workers are there."""

    @abstractmethod
    def _find_stacks(self) -> tuple[dict[int, str], dict[int, str]]:
        """Where the threads of each rank are, and of those that do not answer, why not as far as that is known."""

    @abstractmethod
    def _send(self, rank: int, message: ToWorker) -> None:
        """Send; nothing happens where the worker is gone, `_receive` reports that."""

    @abstractmethod
    def _receive(self, seconds: float) -> tuple[int, ToDriver] | Failure | None:
        """The next message of any worker within `seconds`, or the failure that a worker is gone."""

    @abstractmethod
    def close(self) -> None:
        """Release all workers."""

    def begin(self, task: Task) -> None:
        """Have all workers train a task."""
        self._hash, self._folder, self._latest, self._busy = task.recipe_hash, task.folder, {}, True
        self._watch.forget_epochs()
        self._watch.restart()
        self._send_all(task)

    def interrupt(self) -> bool:
        """Have the workers write a checkpoint after their step and leave the recipe: an Interrupted then comes next.

        While they score sets, it waits for their end. False, and nothing happens, before all of them have begun.
        """
        has_begun = self._busy and len(self._ranks) == self.count
        if has_begun:
            self._send_all(Interrupt())
        return has_begun

    def next(self, seconds: float) -> Report | Done | Interrupted | Failure | None:
        """What happened next, within `seconds`; None while the workers are at work. A report awaits `answer`."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            received = self._receive(left)
            if isinstance(received, Failure):
                return self._find_cause(received)
            if received is None:
                break
            rank, message = received
            if isinstance(message, Running):
                self._watch.restart()
            else:
                self._watch.note()
            if isinstance(message, Progress | Stacks):
                continue
            if isinstance(message, Running):
                self._ranks[rank] = message
                if message.recipe_hash != self._hash:
                    return self._find_cause(_other_recipe(rank, message, self._hash))
                continue
            self._latest[rank] = message
            if isinstance(message, Failed):
                return self._find_cause(None)
            if len(self._latest) == self.count:
                return self._agreed()
        if not self.has_started:  # a start has a limit of its own
            self._watch.restart()
        stalled = self._watch.look() if self._busy else None
        return None if stalled is None else self._end_stalled(stalled)

    def answer(self, proceed: bool) -> None:
        """Answer a report."""
        self._latest = {}
        self._watch.restart()
        self._send_all(Answer(proceed))

    def stop(self) -> None:
        """Leave the recipe at the report that waits for an answer; a crew that is busy elsewhere is of no more use."""
        if not self._busy:
            return
        if len(self._latest) == self.count:
            self.answer(proceed=False)
            if isinstance(self.next(STOP_SECONDS), Done):
                return
        self.usable = self._busy = False

    def _agreed(self) -> Report | Done | Interrupted | Failure:
        """What all workers sent, which has to be the same."""
        first = self._latest[0]
        if all(isinstance(message, Report) for message in self._latest.values()):
            assert isinstance(first, Report)
            if "finished" not in first.metrics:
                self._watch.note_epoch()
            return first
        if all(isinstance(message, Done) for message in self._latest.values()):
            self._busy = False
            return Done()
        if all(isinstance(message, Interrupted) for message in self._latest.values()):
            assert isinstance(first, Interrupted)
            self._busy = False
            return first
        return self._find_cause(Failure(FailureKind.ERROR, "the workers disagree: some ended, some report"))

    def _find_cause(self, failure: Failure | None) -> Failure:
        """The error that the others followed from, once every worker had time to send its own."""
        began = time.monotonic()
        while failure is None and len(self._list_failed()) < self.count:
            patience = GATHER_SECONDS if self._list_own_errors() else LOSS_SECONDS
            received = self._receive(max(0.0, began + patience - time.monotonic()))
            if received is None:
                break
            if isinstance(received, Failure):
                failure = received
            elif not isinstance(received[1], Progress | Stacks):
                self._latest[received[0]] = received[1]
        failed = self._list_failed()
        # Errors of two kinds were raised at two places: one may have left a sum for the next recipe to take part in.
        is_common = len(failed) == self.count and len({message.failure for message in failed}) == 1
        self.usable = failure is None and is_common and all(message.reusable for message in failed)
        self._busy = False
        if own := self._list_own_errors():
            return Failure(own[0].failure, own[0].reason, own[0].node, own[0].node_id)
        return failure or Failure(FailureKind.LOST, failed[0].reason)

    def _end_stalled(self, seconds: float) -> Failure:
        """Keep where the workers hang, and end them."""
        stacks, silence = self._find_stacks()
        saved = save_stacks(Path(self._folder), stacks)
        self.usable = self._busy = False
        self.close()
        rank, is_certain = choose_rank(stacks, silence)
        worker = "its worker" if self.count == 1 else f"worker {rank} of {self.count}"
        place = self._ranks.get(rank) if is_certain else None
        if place is not None:
            worker += f" on {place.node}"
        found = find_place(stacks.get(rank, ""))
        where = f"was in {found}" if found else f"did not answer: {silence.get(rank, 'it is not known why')}"
        file = STACKS_FILE.format(rank=rank)
        kept = f"; all threads are in {file} in its folder" if any(path.name == file for path in saved) else ""
        return Failure(
            FailureKind.LOST,
            f"no progress for {seconds:.0f} s ({self._watch.describe_limit()}): {worker} {where}{kept}",
            place.node if place else None,
            place.node_id if place else None,
        )

    def _list_failed(self) -> list[Failed]:
        messages = [self._latest[rank] for rank in sorted(self._latest)]
        return [message for message in messages if isinstance(message, Failed)]

    def _list_own_errors(self) -> list[Failed]:
        """The failures that were not caused by another worker's failure."""
        return [message for message in self._list_failed() if not _ECHO.search(message.reason)]

    def _send_all(self, message: ToWorker) -> None:
        for rank in range(self.count):
            self._send(rank, message)


def _other_recipe(rank: int, running: Running, proposed: str) -> Failure:
    return Failure(
        FailureKind.ERROR,
        f"worker {rank} has recipe {running.recipe_hash}, but {proposed} was proposed: its machine has another version "
        "of the code",
        running.node,
        running.node_id,
    )
