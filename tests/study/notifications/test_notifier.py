"""What a study's messages are about, how often they come, and that no receiver is ever in the study's way."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_hook import Hook

from model.errors import UserError
from study.config.notify import NotifySettings
from study.config.study_file import Objective, StudyFile
from study.ledger.records import TrialRecord, TrialState
from study.notifications.notifier import Notifier
from study.notifications.occasions import OccasionWatch, describe_end, describe_stop

Wait = Callable[[Callable[[], object]], None]
STUDY = StudyFile.model_validate({"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}})
RUNNING = TrialRecord(7)


def complete(number: int, wer: float, confirms: int | None = None, **metrics: float) -> TrialRecord:
    figures = {"dev/wer": wer} | {f"dev/{name}": figure for name, figure in metrics.items()}
    values = {"ctc_weight": 0.25}
    return TrialRecord(number, TrialState.COMPLETE, metrics=figures, values=values, confirms=confirms)


def failed(number: int, reason: str) -> TrialRecord:
    return TrialRecord(number, TrialState.FAILED, reason=reason)


def open_notifier(hook: Hook, records: list[TrialRecord] | None = None, **settings: object) -> Notifier:
    notify = NotifySettings.model_validate({"webhook": hook.url, "pause_seconds": 0.0} | settings)
    study = STUDY.model_copy(update={"notify": notify})
    return Notifier(study, Path("/studies/s"), {record.number: record for record in records or []})


def test_a_better_trial_is_a_message_and_a_first_or_worse_one_or_a_new_training_of_a_finalist_is_none() -> None:
    watch = OccasionWatch([], STUDY.objective)
    assert watch.see(complete(0, 30.0)) is None
    assert watch.see(complete(1, 31.0)) is None
    assert watch.see(complete(2, 20.0, confirms=0)) is None
    happening = watch.see(complete(3, 25.0))
    assert happening is not None
    words = "trial 0003 is the best so far: dev/wer 25.00, 30.00 in trial 0000 before (ctc_weight 0.25)"
    assert (happening.event, happening.text, happening.trial) == ("best", words, 3)
    assert watch.see(complete(3, 25.0)) is None, "its test sets were scored"


def test_a_trial_that_breaks_a_limit_is_never_announced_as_best_and_no_later_one_is_compared_with_it() -> None:
    objective = Objective.model_validate({"limits": {"dev/rtf": 0.5, "dev/rtf_final": 1.0}})
    watch = OccasionWatch([complete(0, 30.0, rtf=0.4, rtf_final=0.9), complete(1, 10.0, rtf=0.6)], objective)
    assert watch.see(complete(2, 15.0, rtf=0.6, rtf_final=0.9)) is None
    assert watch.see(complete(3, 20.0, rtf=0.4)) is None, "its final decoding was not measured yet"
    happening = watch.see(complete(4, 25.0, rtf=0.4, rtf_final=0.9))
    assert happening is not None
    assert "trial 0004 is the best so far: dev/wer 25.00, 30.00 in trial 0000 before" in happening.text
    happening = watch.see(complete(3, 20.0, rtf=0.4, rtf_final=0.9))
    assert happening is not None
    assert "trial 0003 is the best so far: dev/wer 20.00, 25.00 in trial 0004 before" in happening.text


def test_each_reason_of_a_failure_is_a_message_once_also_where_its_numbers_differ() -> None:
    watch = OccasionWatch([failed(0, "loss is nan at step 7")], STUDY.objective)
    assert watch.see(failed(1, "loss is nan at step 19.5")) is None
    happening = watch.see(failed(2, "no corpus"))
    assert happening is not None
    assert (happening.event, happening.text) == ("failure", "trial 0002 failed: no corpus")
    assert watch.see(failed(3, "no corpus")) is None
    assert watch.see(RUNNING) is None


@given(st.lists(st.floats(1.0, 99.0), max_size=30))
def test_there_is_a_message_for_every_new_minimum_but_the_first(wers: list[float]) -> None:
    watch = OccasionWatch([], STUDY.objective)
    found = [number for number, wer in enumerate(wers) if watch.see(complete(number, wer)) is not None]
    assert found == [number for number in range(1, len(wers)) if wers[number] < min(wers[:number])]


def test_how_a_study_ended_or_stopped_is_a_line() -> None:
    best = TrialRecord(4, TrialState.COMPLETE, baseline="ed", metrics={"dev/wer": 30.0, "dev/wer_final": 25.0})
    words = "it has ended; trial 0004 is the best: dev/wer_final 25.00 (ed)"
    assert describe_end(best, STUDY.objective) == words
    assert describe_end(None, STUDY.objective) == "it has ended, and no trial completed"
    assert (describe_stop(None), describe_stop("no room")) == ("it was stopped", "it has stopped: no room")


def test_only_what_the_study_file_names_is_sent(hook: Hook) -> None:
    notifier = open_notifier(hook, on=["end"])
    notifier.update(failed(0, "no corpus"))
    notifier.end("it has ended")
    notifier.close(30.0)
    assert hook.texts == ["study s: it has ended"]


def test_what_happens_within_the_pause_is_sent_as_one_message_and_the_end_does_not_wait_for_it(
    hook: Hook, wait_until: Wait
) -> None:
    notifier = open_notifier(hook, pause_seconds=600.0)
    notifier.update(failed(0, "no corpus"))
    wait_until(lambda: hook.texts)
    notifier.update(failed(1, "no tokenizer"))
    notifier.update(failed(2, "no disk"))
    notifier.end("it has ended")
    notifier.close(30.0)
    lines = ["trial 0001 failed: no tokenizer", "trial 0002 failed: no disk", "it has ended"]
    assert hook.texts == ["study s: trial 0000 failed: no corpus", "\n".join(f"study s: {line}" for line in lines)]


def test_a_receiver_that_hangs_delays_neither_the_study_nor_the_other_receivers(
    hook: Hook, tmp_path: Path, wait_until: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    hook.hangs.set()
    out = tmp_path / "out"
    notifier = open_notifier(hook, command=f"/bin/sh -c 'cat >> {out}'")
    start = time.monotonic()
    notifier.update(failed(0, "no corpus"))
    assert time.monotonic() - start < 5, "the webhook may take 10 s"
    notifier.end("it has ended")
    notifier.close(1.0)
    assert time.monotonic() - start < 8
    wait_until(lambda: "it has ended" in out.read_text())
    assert "did not take the last message in time" in caplog.text


def test_the_message_of_a_stall_that_the_web_server_refused_is_sent_again_while_nothing_else_happens(
    hook: Hook, wait_until: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = 502
    notifier = open_notifier(hook, stall_seconds=0.2, on=["stall"])
    notifier.update(RUNNING)
    wait_until(lambda: "HTTP status 502" in caplog.text)
    hook.status = 200
    wait_until(lambda: "works again" in caplog.text)
    notifier.close(30.0)
    assert set(hook.texts) == {"study s: nothing was reported for 0 min, while 1 trial runs"}


def test_a_message_that_the_web_server_refused_is_sent_again_as_the_study_ends(
    hook: Hook, wait_until: Wait, caplog: pytest.LogCaptureFixture
) -> None:
    hook.status = 502
    notifier = open_notifier(hook, pause_seconds=600.0)
    notifier.end("it has ended")
    wait_until(lambda: "HTTP status 502" in caplog.text)
    hook.status = 200
    notifier.close(30.0)
    assert hook.texts == ["study s: it has ended"] * 2
    assert "works again" in caplog.text


def test_a_stall_is_a_message_once_until_something_is_reported_again(hook: Hook, wait_until: Wait) -> None:
    notifier = open_notifier(hook, stall_seconds=0.2, on=["stall"])
    time.sleep(0.5)
    assert not hook.texts, "nothing runs"
    notifier.update(RUNNING)
    wait_until(lambda: hook.texts)
    time.sleep(0.5)
    assert hook.texts == ["study s: nothing was reported for 0 min, while 1 trial runs"]
    notifier.update(RUNNING)
    wait_until(lambda: len(hook.texts) == 2)
    notifier.close(30.0)


def test_a_study_that_an_error_or_a_person_stops_is_reported_as_stopped_and_one_that_did_nothing_is_not(
    hook: Hook,
) -> None:
    notifier = open_notifier(hook)
    notifier.update(RUNNING)
    notifier.__exit__(UserError, UserError("the disk is full;\nfree space"), None)
    with open_notifier(hook) as notifier:
        notifier.update(RUNNING)
    notifier = open_notifier(hook)
    notifier.update(RUNNING)
    notifier.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with open_notifier(hook) as notifier:
        notifier.update(RUNNING)
        notifier.end("it has ended")
    with open_notifier(hook):
        pass
    texts = ["it stops: the disk is full; free space", "it was stopped", "it was stopped", "it has ended"]
    assert hook.texts == [f"study s: {text}" for text in texts]


def test_a_record_that_cannot_be_looked_at_is_logged_and_the_study_goes_on(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = open_notifier(hook)
    notifier.update(TrialRecord(3, TrialState.COMPLETE, metrics={"dev/wer": "?"}))  # type: ignore[dict-item]
    notifier.close(30.0)
    assert "notify: trial 0003 was not looked at (TypeError)" in caplog.text
