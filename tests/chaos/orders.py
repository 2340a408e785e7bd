"""What people have ordered of a study, checked on its events: each order is recorded once, and followed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from study.ledger.events import (
    AnyEvent,
    ControlGiven,
    FinalistsChosen,
    SessionStarted,
    StudyEnded,
    StudyInterrupted,
    TrialEnded,
    TrialEpoch,
    TrialPaused,
    TrialStarted,
    TrialState,
)
from study.ledger.ledger import Ledger
from study.ledger.open_parts import CONFIRMATION, SEARCH, is_closed
from study.ledger.steering import CONCURRENT_TRIALS, TRIALS, parse_setting


class Orders:
    """Those that were answered, and so must not be lost."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int | None]] = Counter()  # by command and trial
        self.given = 0

    def acknowledge(self, *words: str) -> None:
        """Words of the command line: `trial 3 stop`, `pause`."""
        self.answered[(words[2], int(words[1])) if words[0] == "trial" else (words[0], None)] += 1

    def check(self, events: Iterable[AnyEvent]) -> None:
        """All that were answered are recorded, and none twice."""
        given = [event for event in events if isinstance(event, ControlGiven)]
        ids = Counter(event.id for event in given if event.id is not None)
        assert not ids or max(ids.values()) == 1, f"a command was recorded twice: {ids.most_common(1)}"
        lost = self.answered - Counter((event.command, event.number) for event in given)
        assert not lost, f"commands that were answered are not recorded: {dict(lost)}"


class FollowedOrders:
    """A fold over events that fails at the first one that an order forbids."""

    def __init__(self, most: int | None = None) -> None:
        """`most`: the trials at the same time that the study file allows."""
        self._most, self._running = most, set[int]()
        self._is_paused = self._is_drained = False
        self._waits: dict[str, set[int]] = {"stop": set(), "pause": set(), "promote": set()}  # trials by order
        self._last: dict[int, int] = defaultdict(int)  # the last epoch of a trial
        self._more: Counter[int] = Counter()  # epochs of a trial since it had to stop

    def apply(self, event: AnyEvent) -> None:
        """Take the next event in; an AssertionError where it does not follow the orders before it."""
        match event:
            case SessionStarted() | StudyInterrupted() | StudyEnded():
                self._is_drained = False
                self._running.clear()
            case ControlGiven(command="set", value=str(text)):
                self._most = dict(parse_setting(text)).get(CONCURRENT_TRIALS, self._most)
            case ControlGiven(number=None):
                self._order_study(event.command)
            case ControlGiven(number=int(number)):
                self._order_trial(event.command, number)
            case TrialStarted():
                starts_nothing = self._is_paused or self._is_drained
                assert not starts_nothing, f"started while nothing may start: {event}"
                assert event.number not in self._waits["stop"] | self._waits["pause"], f"was to wait: {event}"
                self._running.add(event.number)
                assert self._most is None or len(self._running) <= self._most, f"more than {self._most} run: {event}"
            case TrialPaused():
                self._running.discard(event.number)
                assert event.number not in self._waits["promote"], f"was promoted: {event}"
            case TrialEpoch():
                self._count_epoch(event)
            case TrialEnded():
                self._end(event)

    def _order_study(self, command: str) -> None:
        if command == "drain":
            self._is_drained = True
        elif command in ("pause", "resume"):
            self._is_paused, self._is_drained = command == "pause", self._is_drained and command == "pause"
            self._more.clear()

    def _order_trial(self, command: str, number: int) -> None:
        if command == "note":
            return
        self._more[number] = 0
        if command in ("resume", "retry", "stop"):
            self._waits["pause"].discard(number)
        if command == "retry":
            self._forget(number)
        if command in self._waits:
            self._waits[command].add(number)

    def _count_epoch(self, event: TrialEpoch) -> None:
        """A trial that has to leave its workers does so at its next report."""
        if event.epoch <= self._last[event.number]:
            return  # again, because its report was not answered
        self._last[event.number] = event.epoch
        if self._is_paused or event.number in self._waits["stop"] | self._waits["pause"]:
            self._more[event.number] += 1
            assert self._more[event.number] <= 1, f"trained on, though it was to stop at its report: {event}"

    def _end(self, event: TrialEnded) -> None:
        self._running.discard(event.number)
        if event.state is TrialState.PRUNED and event.number in self._waits["promote"]:
            assert (event.reason or "").startswith("stopped by "), f"was promoted: {event}"
        if event.state.final:
            self._forget(event.number)

    def _forget(self, number: int) -> None:
        for waits in self._waits.values():
            waits.discard(number)


def assert_orders_followed(events: Iterable[AnyEvent], most: int | None) -> None:
    """`most`: the trials at the same time that the study file allows."""
    followed = FollowedOrders(most)
    for event in events:
        followed.apply(event)


def assert_as_many_as_ordered(ledger: Ledger, trials: int) -> None:
    """The baseline, the sampled trials that the study file and people ask for, each enqueued recipe, and the new
    trainings of each finalist, all once.

    `trials` are those of the study file. A budget may leave some out.
    """
    limit, sampled, baselines, asked, enqueued = trials, set[int](), set[int](), Counter[str](), Counter[str]()
    confirmed, finalists = Counter[int](), set[int]()
    known: set[int] = set()
    for event in ledger.log.iterate():
        match event:
            case ControlGiven(command="set", value=str(text)):
                limit = dict(parse_setting(text)).get(TRIALS) or limit
            case ControlGiven(command="enqueue", id=str(id_)):
                asked[id_] += 1
            case FinalistsChosen():
                finalists = {finalist.number for finalist in event.finalists}
            case TrialStarted(number=number) if number not in known:
                known.add(number)
                if event.confirms is not None:
                    confirmed[event.confirms] += 1
                    continue
                if event.enqueued is not None:
                    enqueued[event.enqueued] += 1
                    continue
                (sampled if event.baseline is None else baselines).add(number)
                assert len(sampled) <= limit, f"trial {number} is one more than the {limit} that were asked for"
    assert enqueued <= asked, f"recipes that were enqueued once were tried again: {enqueued - asked}"
    numbers = list(ledger.trials)
    assert numbers == list(range(len(numbers))), f"trials are {numbers}"
    assert known == set(numbers), f"trials {known ^ set(numbers)} are no trials, or never started"
    assert len(baselines) <= 1, f"the baseline was tried as {baselines}"
    if not is_closed(ledger.trials, ledger.study, SEARCH):
        assert len(baselines) == 1, "the baseline was not tried"
        assert len(sampled) >= limit, f"{len(sampled)} trials were sampled, but {limit} are asked for"
        assert enqueued == asked, f"recipes that were enqueued were not tried: {asked - enqueued}"
    seeds = ledger.study.confirmation.seeds
    assert not confirmed or max(confirmed.values()) <= seeds, f"new trainings of finalists: {confirmed}"
    if not is_closed(ledger.trials, ledger.study, CONFIRMATION):
        lacking = {number for number in finalists if confirmed[number] != seeds}
        assert not lacking, f"finalists {lacking} were not trained {seeds} times: {confirmed}"
