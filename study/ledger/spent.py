"""What a study has used: the hours of its sessions, and the time that its trials held their workers.

A trial holds its workers from its start, or its continuation, until it pauses, is interrupted, retried or ends. So
training, validation, the search for a decoding, the scoring of test sets, and whatever was lost and has to be repeated
are counted. What a driver did between its last event and its death is counted until its last heartbeat, where the next
session knows it. Hours in which the study was paused and no trial held workers are not counted: nothing was used.

Laws, tested: folding a and then b is folding a + b; nothing that was used ever becomes less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from study.config.budget import SECONDS_PER_HOUR, BudgetSettings, Workers
from study.ledger.budget_events import SessionWorkers, TestsStarted
from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialDecoded,
    TrialDecodingSearched,
    TrialEnded,
    TrialEpoch,
    TrialMoved,
    TrialPaused,
    TrialRetried,
    TrialStarted,
    TrialState,
)

# An epoch that took so many seconds more than twice what its training and validation say: the machine slept, or its
# clock was moved. That is used, but says nothing of the next epoch.
ASLEEP_SECONDS = 600.0


@dataclass
class TrialUse:
    """The seconds that one trial held its workers, and what they went into."""

    seconds: float = 0.0  # without those since it last got them
    since: float | None = None  # when it last got its workers; None while it has none
    latest: float = 0.0  # when it got them, or reported last
    starts: int = 0  # times that it reported for the first time since it got them
    starting: float = 0.0  # seconds until its workers trained, all starts together
    reports: int = 0  # epochs whose seconds are known, those that had to be repeated included
    reporting: float = 0.0  # seconds of these epochs
    longest: float = 0.0  # seconds of the longest of them
    ending: float | None = None  # seconds from the last report to the end of a complete trial
    has_started: bool = False  # whether it has reported since it got its workers

    def add_epoch(self, seconds: float) -> None:
        """Take in the seconds of an epoch that was reported."""
        self.reports, self.reporting = self.reports + 1, self.reporting + seconds
        self.longest = max(self.longest, seconds)


@dataclass
class Spent:
    """The fold. `time` is that of the last event; a clock that was set back adds nothing."""

    time: float = 0.0
    events: int = 0  # so many were folded
    trials: dict[int, TrialUse] = field(default_factory=dict)
    tests: dict[int, TrialUse] = field(default_factory=dict)  # scoring of test sets after a trial's end
    _session: float | None = None  # when the session began that runs
    _sessions: float = 0.0  # seconds of those before it, and of this one less its pauses
    _is_paused: bool = False  # whether a person has paused the study
    _idle: float | None = None  # since when it is paused and no trial holds workers, while a session runs
    _workers: SessionWorkers | None = None  # of the session
    # Seconds by the workers that trials had; None in sessions of earlier versions, which do not say it.
    _closed: defaultdict[SessionWorkers | None, float] = field(default_factory=lambda: defaultdict(float))

    @classmethod
    def fold(cls, events: Iterable[AnyEvent]) -> Spent:
        """What these events used."""
        spent = cls()
        for event in events:
            spent.apply(event)
        return spent

    def apply(self, event: AnyEvent) -> None:
        """Take the next event in."""
        now = max(event.time, self.time)
        if isinstance(event, SessionStarted):
            # Whatever ran before it ended with its driver: at the last event, or at a later heartbeat.
            self._close_session(min(max(event.alive_until or 0.0, self.time), now))
            self._session, self._workers = now, event.workers
        self.time, self.events = now, self.events + 1
        if (take := _TAKE.get(type(event))) is not None:
            take(self, event)
        if self._is_paused or self._idle is not None:
            self._note_idle()

    @property
    def running(self) -> list[int]:
        """The trials that hold workers, those whose test sets are scored not included."""
        return [number for number, use in self.trials.items() if use.since is not None]

    def count_hours(self, now: float | None = None) -> float:
        """The hours in which sessions ran, but for their pauses, until `now` or the last event."""
        now = max(self.time, now or 0.0)
        began = None if self._idle is not None else self._session
        return (self._sessions + (0.0 if began is None else now - began)) / SECONDS_PER_HOUR

    def measure(self, budget: BudgetSettings, workers: Workers, now: float | None = None) -> dict[str, float]:
        """What was used of each limit of the budget; `workers` are those of sessions that do not say theirs."""
        now, seconds = max(self.time, now or 0.0), self._closed.copy()
        # Copies, because another thread may read while events are folded.
        for use in (*tuple(self.trials.values()), *tuple(self.tests.values())):
            if (since := use.since) is not None:
                seconds[self._workers] += now - since
        used = {}
        for name in budget.limits:
            if name == "hours":
                used[name] = self.count_hours(now)
            else:
                used[name] = sum(value * budget.find_rate(name, one or workers) for one, value in seconds.items())
        return used

    def _take_workers(self, uses: dict[int, TrialUse], number: int) -> None:
        use = uses.setdefault(number, TrialUse())
        if use.since is None:
            use.since = use.latest = self.time
            use.has_started = False

    def _give_back(self, uses: dict[int, TrialUse], number: int, now: float) -> None:
        use = uses.get(number)
        if use is not None and use.since is not None:
            held = max(0.0, now - use.since)
            use.seconds, use.since = use.seconds + held, None
            self._closed[self._workers] += held

    def _note_report(self, event: TrialEpoch) -> None:
        use = self.trials.get(event.number)
        if use is None or use.since is None:
            return
        seconds = self.time - use.latest
        known = (event.seconds.training or 0.0) + (event.seconds.validation or 0.0)
        if use.has_started:
            use.add_epoch(known if known and seconds > 2 * known + ASLEEP_SECONDS else seconds)
        else:  # workers had to start, or to be found, before its epoch began
            use.starts, use.starting = use.starts + 1, use.starting + max(0.0, seconds - known)
            if known:
                use.add_epoch(min(known, seconds))
        use.has_started, use.latest = True, self.time

    def _end(self, event: TrialEnded) -> None:
        use = self.trials.get(event.number)
        if use is not None and use.since is not None and event.state is TrialState.COMPLETE:
            use.ending = self.time - use.latest
        self._give_back(self.trials, event.number, self.time)

    def _decode(self, event: TrialDecoded | TrialDecodingSearched) -> None:
        """Within a trial's own time, or that of the scoring, it counts already; otherwise its seconds are added."""
        number = event.number
        if any(number in uses and uses[number].since is not None for uses in (self.trials, self.tests)):
            if isinstance(event, TrialDecoded):
                self._give_back(self.tests, number, self.time)
            return
        self.tests.setdefault(number, TrialUse()).seconds += event.seconds or 0.0
        self._closed[self._workers] += event.seconds or 0.0

    def _take_order(self, event: ControlGiven) -> None:
        if event.number is None and event.command in ("pause", "resume"):
            self._is_paused = event.command == "pause"

    def _note_idle(self) -> None:
        """Count the session's hours only while it is not paused, or a trial still holds workers."""
        uses = (*self.trials.values(), *self.tests.values())
        is_idle = self._session is not None and self._is_paused and all(use.since is None for use in uses)
        if is_idle and self._idle is None:
            self._sessions += self.time - (self._session or 0.0)
            self._idle = self.time
        elif not is_idle and self._idle is not None:
            self._session, self._idle = None if self._session is None else self.time, None

    def _close_session(self, now: float) -> None:
        for uses in (self.trials, self.tests):
            for number in uses:
                self._give_back(uses, number, now)
        if self._session is not None and self._idle is None:
            self._sessions += max(0.0, now - self._session)
        self._session = self._idle = None


# By kind, because a long study has tens of thousands of events, and a chain of comparisons takes three times as long.
_TAKE: dict[type, Callable[[Spent, Any], None]] = {
    StudyEnded: lambda spent, event: spent._close_session(spent.time),
    StudyInterrupted: lambda spent, event: spent._close_session(spent.time),
    ControlGiven: Spent._take_order,
    TrialStarted: lambda spent, event: spent._take_workers(spent.trials, event.number),
    TestsStarted: lambda spent, event: spent._take_workers(spent.tests, event.number),
    TrialEpoch: Spent._note_report,
    TrialPaused: lambda spent, event: spent._give_back(spent.trials, event.number, spent.time),
    TrialRetried: lambda spent, event: spent._give_back(spent.trials, event.number, spent.time),
    TrialMoved: lambda spent, event: spent._give_back(spent.trials, event.number, spent.time),
    TrialEnded: Spent._end,
    TrialDecoded: Spent._decode,
    TrialDecodingSearched: Spent._decode,
}
