"""The live board, and the lines that are printed where there is no terminal."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

from rich.console import Console, Group

from study.display.board import Board, format_duration
from study.ledger.events import EpochReport
from study.ledger.records import TrialRecord, TrialState

VALUES = {"ctc_weight": 0.25, "auxiliary.placement": "1,3"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_board(terminal: bool = False, trials: int = 4) -> tuple[Board, Console, Clock]:
    console, clock = Console(file=io.StringIO(), width=120, force_terminal=terminal), Clock()
    return Board(console, "probe", {}, trials, clock=clock), console, clock


def running_record(number: int, *metrics: dict[str, float]) -> TrialRecord:
    epochs = tuple(EpochReport(epoch=epoch, metrics=report) for epoch, report in enumerate(metrics, 1))
    last = metrics[-1] if metrics else {}
    return TrialRecord(number, values=VALUES, planned_epochs=4, epochs=epochs, metrics=last)


def end(record: TrialRecord, state: TrialState, reason: str | None = None) -> TrialRecord:
    return replace(record, state=state, reason=reason)


def printed_lines(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_without_a_terminal_every_event_is_printed_as_one_plain_line() -> None:
    board, console, clock = make_board()
    board.update(running_record(0))
    clock.now = 10.0
    epoch = running_record(0, {"dev/wer": 61.25, "dev/ilm_perplexity": 12.0})
    board.update(epoch)
    board.update(end(epoch, TrialState.INTERRUPTED, "worker 1 was lost; retry 1 (failures.retries 5)"))
    board.update(epoch)
    clock.now = 20.0
    board.update(end(epoch, TrialState.FAILED, "NonFiniteLossError: loss is nan [at] step 7"))
    board.update(TrialRecord(1, TrialState.INFEASIBLE, "heads 3 do not divide width 128"))
    assert printed_lines(console) == [
        "trial 0000 started: ctc_weight 0.25, auxiliary.placement 1,3",
        "trial 0000 epoch 1/4: WER 61.25, ILM ppl 12.00",
        "trial 0000 interrupted: worker 1 was lost; retry 1 (failures.retries 5)",
        "trial 0000 continues: ctc_weight 0.25, auxiliary.placement 1,3",
        "trial 0000 failed: NonFiniteLossError: loss is nan [at] step 7; 60 s left",
        "trial 0001 infeasible: heads 3 do not divide width 128; 40 s left",
    ]


def test_an_epoch_is_printed_once_whatever_else_is_recorded_of_its_trial_and_again_when_it_is_trained_again() -> None:
    board, console, _ = make_board()
    board.update(running_record(0))
    epoch, again = (running_record(0, {"dev/wer": 61.25}) for _ in range(2))
    board.update(epoch)
    board.update(replace(epoch, found_decoding={"beam": 4}, notes=("good",)))
    assert len(printed_lines(console)) == 2
    board.update(again)
    assert printed_lines(console)[1:] == 2 * ["trial 0000 epoch 1/4: WER 61.25"]


def test_the_time_left_is_estimated_from_the_trials_so_far() -> None:
    board, _, clock = make_board(trials=4)
    board.update(running_record(0))
    assert board.estimate_seconds_left() is None
    clock.now = 10.0
    board.update(running_record(0, {}))
    assert board.estimate_seconds_left() == 4 * 40.0 - 10.0
    clock.now = 40.0
    board.update(end(running_record(0, {}), TrialState.COMPLETE))
    assert board.estimate_seconds_left() == 3 * 40.0


def resume_board(epochs: int, planned: int, trials: int) -> tuple[Board, Console, Clock]:
    """A board on whose clock trial 0 has just continued, after epochs of an earlier session."""
    console, clock = Console(file=io.StringIO(), width=160, force_terminal=True), Clock()
    record = make_record(epochs, planned)
    board = Board(console, "probe", {0: end(record, TrialState.INTERRUPTED)}, trials, clock=clock)
    board.update(record)
    return board, console, clock


def make_record(epochs: int, planned: int, number: int = 0) -> TrialRecord:
    return replace(running_record(number, *[{}] * epochs), planned_epochs=planned)


def test_a_trial_that_continues_has_no_pace_before_it_has_reported_an_epoch_in_this_session() -> None:
    board, console, clock = resume_board(8, 10, trials=3)
    clock.now = 5.0
    assert board.estimate_seconds_left() is None
    console.print(board.render())
    assert "time left: known after the first epoch" in printed_lines(console)[-1]


def test_the_pace_of_a_trial_that_continues_is_that_of_its_epochs_in_this_session() -> None:
    board, _, clock = resume_board(8, 10, trials=3)
    clock.now = 20.0
    board.update(make_record(9, 10))
    assert board.estimate_seconds_left() == 3 * 10 * 20.0 - 9 * 20.0
    clock.now = 30.0
    assert board.estimate_seconds_left() == 3 * 10 * 20.0 - 9 * 20.0 - 10.0


def test_a_trial_that_continues_counts_with_its_earlier_epochs_while_only_others_have_shown_a_pace() -> None:
    board, _, clock = resume_board(8, 10, trials=2)
    board.update(make_record(0, 10, number=1))
    clock.now = 20.0
    board.update(make_record(1, 10, number=1))
    assert board.estimate_seconds_left() == (200.0 - 160.0 - 20.0) + (200.0 - 20.0)


def test_the_duration_of_a_trial_that_continued_counts_as_if_all_its_epochs_had_been_trained_in_this_session() -> None:
    board, _, clock = resume_board(8, 10, trials=3)
    for epoch in (9, 10):
        clock.now += 20.0
        board.update(make_record(epoch, 10))
    clock.now += 7.0  # its end, which is not one of its epochs
    board.update(end(make_record(10, 10), TrialState.COMPLETE))
    assert board.estimate_seconds_left() == 2 * (10 * 20.0 + 7.0)


def test_a_trial_that_continued_only_to_end_says_nothing_of_how_long_trials_take() -> None:
    board, _, clock = resume_board(10, 10, trials=3)
    clock.now = 3.0
    board.update(end(make_record(10, 10), TrialState.COMPLETE))
    assert board.estimate_seconds_left() is None
    board.update(make_record(0, 10, number=1))
    clock.now = 23.0
    board.update(make_record(1, 10, number=1))
    assert board.estimate_seconds_left() == 2 * 200.0 - 20.0


def test_an_epoch_that_is_trained_again_counts_among_those_of_this_session() -> None:
    board, _, clock = resume_board(8, 10, trials=1)
    clock.now = 20.0
    board.update(make_record(7, 10))  # the checkpoint of epoch 8 was lost, and that of epoch 7
    assert board.estimate_seconds_left() == 3 * 20.0


def test_the_time_that_a_trial_waits_at_a_rung_is_no_part_of_its_duration() -> None:
    board, _, clock = make_board(trials=2)
    board.update(running_record(0))
    clock.now = 10.0
    board.update(running_record(0, {}))
    board.update(end(running_record(0, {}), TrialState.WAITING))
    clock.now = 500.0
    board.update(running_record(0, {}))
    clock.now = 540.0
    board.update(end(running_record(0, {}, {}), TrialState.COMPLETE))
    assert board.estimate_seconds_left() == 50.0


def test_a_wait_is_printed_when_it_begins_and_once_more_when_it_is_over() -> None:
    board, console, clock = make_board()
    board.show_capacity(1, None)
    board.show_capacity(1, "waiting for 1 CPU on one node; 2 of 3 nodes are used by others")
    clock.now = 42.0
    board.show_capacity(1, "waiting for 1 CPU on one node; 1 of 3 nodes is used by others")
    board.show_capacity(2, None)
    board.show_capacity(2, None)
    assert printed_lines(console) == [
        "waiting for 1 CPU on one node; 2 of 3 nodes are used by others",
        "no longer waiting, after 42 s",
    ]


def test_on_a_terminal_the_footer_has_what_is_waited_for_while_it_lasts() -> None:
    board, console, _ = make_board(terminal=True)
    board.show_capacity(1, "waiting for 2 CPUs on one node; the cluster has no node")
    console.print(board.render())
    board.show_capacity(1, None)
    console.print(board.render())
    before, after = "\n".join(printed_lines(console)).split("trial", 2)[1:]
    assert "the cluster has no node" in " ".join(before.split())
    assert "the cluster has no node" not in " ".join(after.split())


def test_the_time_left_is_of_as_many_trials_at_the_same_time_as_have_room() -> None:
    board, _, clock = make_board(trials=4)
    board.update(running_record(0))
    clock.now = 10.0
    board.update(running_record(0, {}))
    board.show_capacity(2, None)
    assert board.estimate_seconds_left() == (4 * 40.0 - 10.0) / 2


def test_the_time_left_follows_what_is_enqueued_or_set_and_ends_with_the_budget() -> None:
    clock, left, limits = Clock(), [4], [1000.0]
    board = Board(
        Console(file=io.StringIO()),
        "probe",
        {},
        4,
        clock=clock,
        count_left=lambda: left[0],
        find_limit=lambda concurrency: limits[0] / concurrency,
    )
    board.update(running_record(0))
    clock.now = 10.0
    board.update(running_record(0, {}))
    assert board.estimate_seconds_left() == 4 * 40.0 - 10.0
    left[0] = 6  # two more were enqueued
    board.show_capacity(1, None)
    assert board.estimate_seconds_left() == 6 * 40.0 - 10.0
    clock.now, left[0] = 40.0, 2  # the file's number of trials was set to three
    board.update(end(running_record(0, {}), TrialState.COMPLETE))
    assert board.estimate_seconds_left() == 2 * 40.0
    limits[0] = 50.0
    board.show_capacity(1, None)
    assert board.estimate_seconds_left() == 50.0
    clock.now = 45.0
    assert board.estimate_seconds_left() == 45.0
    board.show_capacity(2, None)
    assert board.estimate_seconds_left() == 25.0


def test_the_table_is_drawn_in_another_thread_without_a_look_at_the_records_of_the_study() -> None:
    readers: set[int] = set()

    def read() -> int:
        readers.add(threading.get_ident())
        return 3

    board = Board(
        Console(file=io.StringIO(), width=120, force_terminal=True),
        "probe",
        {},
        3,
        describe_budget=lambda: [f"budget: {read()} hours used"],
        count_left=read,
        find_limit=lambda concurrency: float(read()),
    )
    board.update(running_record(0, {}))
    board.show_capacity(2, None)
    drawn: list[Group] = []
    thread = threading.Thread(target=lambda: drawn.append(board.render()))  # type: ignore[arg-type]
    thread.start()
    thread.join()
    assert "budget: 3 hours used" in [str(part) for part in drawn[0].renderables]
    assert readers == {threading.get_ident()}


def test_the_table_has_a_line_a_trial_with_its_metrics_and_values() -> None:
    board, console, _ = make_board(terminal=True)
    board.update(running_record(7, {}, {"dev/wer": 61.25, "dev/ilm_perplexity": 12.0}))
    console.print(board.render())
    text = "\n".join(printed_lines(console))
    for cell in ("0007", "running", "2/4", "61.25", "12.00", "0.25", "1, 3", "1 running"):
        assert cell in text


def test_on_a_small_screen_the_newest_trials_are_visible() -> None:
    board, console, _ = make_board(terminal=True)
    console.height = 20
    for number in range(50):
        board.update(running_record(number))
        board.update(end(running_record(number), TrialState.COMPLETE))
    console.print(board.render())
    text = "\n".join(printed_lines(console))
    assert "0049" in text
    assert "0001" not in text
    assert len(printed_lines(console)) <= 20


def test_durations_are_formatted_in_one_or_two_units() -> None:
    assert [format_duration(seconds) for seconds in (40, 720, 3900)] == ["40 s", "12 min", "1:05 h"]
