"""Messages are decoded as they were encoded."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from study.workers.failure import FailureKind
from study.workers.messages import (
    Answer,
    Close,
    Done,
    Failed,
    Interrupt,
    Interrupted,
    Progress,
    Report,
    Running,
    SendStacks,
    Stacks,
    Task,
    ToDriver,
    ToWorker,
    decode,
    encode,
)

EXAMPLES = [
    Task('{"name": "é"}', "abc", "/folder", study_folder="/study", study_id="0", session="000001.jsonl"),
    Answer(proceed=False),
    Interrupt(),
    SendStacks(),
    Close(),
    Running("abc", "node-1", "cpu", "0123", 4711, "/proc/4711/fd/9"),
    Progress(),
    Stacks("Thread 0x1 (most recent call first):\n"),
    Report({"epoch": 3, "dev/wer": 12.5}, waited=0.25, node="node-1", device="cpu"),
    Report(),
    Done(),
    Interrupted("after step 4 of epoch 1", node="node-1", node_id="0123"),
    Failed(FailureKind.OUT_OF_MEMORY, "one utterance does not fit", reusable=True, node="node-1", node_id="0123"),
]


def test_every_message_has_an_example_here() -> None:
    assert {type(message) for message in EXAMPLES} == {*get_args(ToWorker), *get_args(ToDriver)}


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_is_decoded_as_it_was_encoded(message: Any) -> None:
    decoded = decode(encode(message))
    assert decoded == message
    assert type(decoded) is type(message)


def test_the_kind_of_a_failure_is_decoded_as_a_failure_kind() -> None:
    assert decode(encode(Failed(FailureKind.LOST, "gone", reusable=False))).failure is FailureKind.LOST
