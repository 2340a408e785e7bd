"""The workers of a trial as its driver sees them: a recipe goes in, reports and one end come out.

`Crew` keeps the conversation; where the workers are, and how words reach them, is for `InProcess` (one worker, a
thread of the driver's own process) and `study.workers.group.Group` (standing processes under Ray Train).
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from study.workers.failure import Failure, Kind
from study.workers.worker import Message

# A rank whose peer died or broke only sees its connection close; the peer's own words are the ones worth reading.
_ECHO = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket|DistBackendError", re.IGNORECASE)
GATHER_SECONDS = 1.0  # for the other workers' words, when the first one broke
LOSS_SECONDS = 4.0  # for the news which worker it was whose death the others echo
STOP_SECONDS = 5.0  # for workers to leave a training that was stopped


@dataclass(frozen=True)
class Report:
    """An epoch's metrics; the workers wait for `answer`."""

    metrics: dict[str, float]


@dataclass(frozen=True)
class Done:
    """Training ended well."""


class Crew(ABC):
    """`count` workers that train one recipe after the other. Not for several threads."""

    placement_group: str | None = None  # of Ray's, which holds the workers' resources even when the driver is gone

    def __init__(self, count: int) -> None:
        self.count = count
        self.usable = True  # whether it can take another recipe
        self._hash = ""
        self._words: dict[int, Message] = {}  # rank -> what it said last, when it waits or has ended
        self._busy = False

    @abstractmethod
    def _send(self, rank: int, message: Message) -> None:
        """Nothing happens where the worker is gone; `_hear` tells."""

    @abstractmethod
    def _hear(self, seconds: float) -> tuple[int, Message] | Failure | None:
        """The next words of any worker within `seconds`, or that one is gone."""

    @abstractmethod
    def close(self) -> None:
        """Let all workers go."""

    def begin(self, task: Message) -> None:
        """Have all workers train `task`: recipe (JSON), recipe_hash, folder."""
        self._hash, self._words, self._busy = task["recipe_hash"], {}, True
        self._tell_all({"kind": "task", **task})

    def next(self, seconds: float) -> Report | Done | Failure | None:
        """What happened next, within `seconds`; None while the workers are at work."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            heard = self._hear(left)
            if isinstance(heard, Failure):
                return self._broken(heard)
            if heard is None:
                return None
            rank, message = heard
            if message["kind"] == "runs":
                if message["recipe_hash"] != self._hash:
                    return self._broken(_other_recipe(rank, message["recipe_hash"], self._hash))
                continue
            self._words[rank] = message
            if message["kind"] == "broke":
                return self._broken(None)
            if len(self._words) == self.count:
                return self._all_said()
        return None

    def answer(self, go_on: bool) -> None:
        """Answer a report."""
        self._words = {}
        self._tell_all({"kind": "answer", "go_on": go_on})

    def stop(self) -> None:
        """Leave the recipe at the report that waits for an answer; a crew that is busy elsewhere is of no more use."""
        if not self._busy:
            return
        if len(self._words) == self.count:
            self.answer(go_on=False)
            if isinstance(self.next(STOP_SECONDS), Done):
                return
        self.usable = self._busy = False

    def _all_said(self) -> Report | Done | Failure:
        kinds = {message["kind"] for message in self._words.values()}
        if kinds == {"report"}:
            return Report(self._words[0]["metrics"])
        if kinds == {"done"}:
            self._busy = False
            return Done()
        return self._broken(Failure(Kind.ERROR, "the workers are not at the same place: some ended, some report"))

    def _broken(self, failure: Failure | None) -> Failure:
        """The root of what went wrong, once every worker had time to speak."""
        began = time.monotonic()
        while failure is None and len(self._broke()) < self.count:
            patience = GATHER_SECONDS if self._own() else LOSS_SECONDS
            heard = self._hear(max(0.0, began + patience - time.monotonic()))
            if heard is None:
                break
            if isinstance(heard, Failure):
                failure = heard
            else:
                self._words[heard[0]] = heard[1]
        broke = self._broke()
        self.usable = failure is None and len(broke) == self.count and all(message["clean"] for message in broke)
        self._busy = False
        if own := self._own():
            return Failure(Kind(own[0]["failure"]), own[0]["reason"])
        return failure or Failure(Kind.LOST, broke[0]["reason"])

    def _broke(self) -> list[Message]:
        return [self._words[rank] for rank in sorted(self._words) if self._words[rank]["kind"] == "broke"]

    def _own(self) -> list[Message]:
        """What broke of itself, and not because another worker did."""
        return [message for message in self._broke() if not _ECHO.search(message["reason"])]

    def _tell_all(self, message: Message) -> None:
        for rank in range(self.count):
            self._send(rank, message)


def _other_recipe(rank: int, runs: str, sampled: str) -> Failure:
    return Failure(
        Kind.ERROR,
        f"worker {rank} has recipe {runs}, but {sampled} was sampled: its machine has another version of the code",
    )
