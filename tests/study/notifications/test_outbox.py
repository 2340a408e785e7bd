"""An outbox sends what failed again, by itself, ever less often, and once more when it is closed."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable

import pytest

from study.notifications.message import Happening, Message
from study.notifications.outbox import LONGEST_RETRY_SECONDS, MOST_HELD, Outbox, make_retry_pauses
from study.notifications.receivers import NotSentError

Wait = Callable[[Callable[[], object]], None]


class FailingReceiver:
    """Fails a given number of times, then takes each message."""

    def __init__(self, failures: int) -> None:
        self.failures, self.messages = failures, list[Message]()
        self.tries: list[float] = []  # when each began
        self.answers = threading.Event()
        self.answers.set()

    def send(self, message: Message, seconds: float) -> None:
        self.tries.append(time.monotonic())
        assert self.answers.wait(30)
        if self.failures:
            self.failures -= 1
            raise NotSentError("no")
        self.messages.append(message)

    @property
    def texts(self) -> list[list[str]]:
        return [[happening.text for happening in message.happenings] for message in self.messages]


def test_a_receiver_that_fails_is_logged_once_and_gets_what_it_missed_with_the_next_message(
    wait_until: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = FailingReceiver(failures=3)
    outbox = Outbox(receiver, "s", "/s", pause=0.0, retry=600.0)
    for number in range(4):
        failures = receiver.failures
        outbox.put(Happening("failure", str(number)))
        wait_until(lambda was=failures: receiver.failures < was or receiver.messages)  # type: ignore[misc]
    outbox.close()
    outbox.join(30.0)
    assert receiver.texts == [["0", "1", "2", "3"]]
    assert caplog.text.count("failed (no); the study continues") == 1
    assert caplog.text.count("works again") == 1


def test_what_waits_for_a_receiver_that_fails_is_bounded() -> None:
    receiver = FailingReceiver(failures=10**9)
    outbox = Outbox(receiver, "s", "/s", pause=0.0)
    for number in range(3 * MOST_HELD):
        outbox.put(Happening("failure", str(number)))
    outbox.close()
    outbox.join(30.0)
    assert len(outbox._held) == MOST_HELD


def test_what_failed_is_tried_again_by_itself_after_pauses_that_double(wait_until: Wait) -> None:
    receiver = FailingReceiver(failures=3)
    outbox = Outbox(receiver, "s", "/s", pause=0.1, retry=0.05)
    outbox.put(Happening("stall", "nothing was reported"))
    wait_until(lambda: receiver.messages)
    outbox.close()
    outbox.join(30.0)
    assert receiver.texts == [["nothing was reported"]]
    pauses = [after - before for before, after in itertools.pairwise(receiver.tries)]
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True)), pauses


@pytest.mark.parametrize(
    ("pause", "retry", "expected"),
    [
        (60.0, 1.0, [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, LONGEST_RETRY_SECONDS, LONGEST_RETRY_SECONDS]),
        (0.0, 1.0, [1.0, 2.0, 4.0]),
        (7200.0, 1.0, [7200.0, 7200.0]),
    ],
)
def test_the_pauses_before_new_tries_begin_at_the_pause_between_messages_and_end_at_an_hour(
    pause: float, retry: float, expected: list[float]
) -> None:
    assert list(itertools.islice(make_retry_pauses(pause, retry), len(expected))) == expected


def test_a_message_that_was_sent_ends_the_growth_of_the_pauses(wait_until: Wait) -> None:
    receiver = FailingReceiver(failures=2)
    outbox = Outbox(receiver, "s", "/s", pause=0.0, retry=600.0)
    for text in "abc":
        tries = len(receiver.tries)
        outbox.put(Happening("failure", text))
        wait_until(lambda was=tries: len(receiver.tries) > was)  # type: ignore[misc]
    wait_until(lambda: receiver.messages)
    receiver.failures = 1
    outbox.put(Happening("failure", "d"))
    wait_until(lambda: len(receiver.tries) == 4 and outbox._due != math.inf)
    assert outbox._due - time.monotonic() <= 600.0
    outbox.close()
    outbox.join(30.0)
    assert receiver.texts == [["a", "b", "c"], ["d"]]


@pytest.mark.parametrize("is_under_way", [False, True])
@pytest.mark.parametrize(("failures", "texts"), [(1, [["a"]]), (10**9, [])])
def test_what_failed_or_is_about_to_fail_is_tried_once_more_at_the_end(
    wait_until: Wait, failures: int, texts: list[list[str]], is_under_way: bool
) -> None:
    receiver = FailingReceiver(failures)
    if is_under_way:
        receiver.answers.clear()
    outbox = Outbox(receiver, "s", "/s", pause=600.0)
    outbox.put(Happening("failure", "a"))
    wait_until(lambda: receiver.tries and (is_under_way or outbox._held))
    outbox.close()
    receiver.answers.set()
    outbox.join(30.0)
    assert not outbox._thread.is_alive()
    assert receiver.texts == texts
    assert len(receiver.tries) == 2
