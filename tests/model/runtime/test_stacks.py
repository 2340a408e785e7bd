"""Where a process hangs, from the stacks of its threads."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack_samples import NAMED, SLEEPS, WAITS
from waiting import wait_for

from model.runtime.stacks import dump_stacks, find_place, request_stacks, save_stacks

SECONDS = 60.0  # that a busy machine may take
# PyDLL keeps the interpreter's lock. A signal ends a sleep in C, but not the read of an empty pipe.
HOLD = """
import ctypes, os
read, (pipe, _), buffer = ctypes.PyDLL(None).read, os.pipe(), ctypes.create_string_buffer(1)
read(pipe, buffer, 1)
"""
HELD = '(most recent call first):\n  File "<string>", line 4 in <module>'  # the read itself is what it is in


def answering_process(code: str) -> subprocess.Popen[str]:
    """A process that answers the signal, prints its stacks' file and then runs the code."""
    start = "from model.runtime.stacks import answer_signal; print(answer_signal(), flush=True); "
    return subprocess.Popen([sys.executable, "-c", start + code], stdout=subprocess.PIPE, text=True)


def test_the_line_of_a_thread_that_waits_is_named_with_the_line_of_this_project_that_called_it() -> None:
    assert find_place(NAMED + WAITS) == (
        "torch/distributed/distributed_c10d.py:3155 in all_reduce, called at "
        "model/runtime/distributed.py:40 in sum_over_ranks"
    )
    assert find_place(NAMED + SLEEPS) == "model/data/features.py:7 in read"
    assert find_place(WAITS) is None, "which thread trains is not known"


def test_where_the_training_waits_for_the_thread_that_reads_that_ones_line_is_named() -> None:
    hold, started = threading.Event(), threading.Event()

    def read_for_ever() -> None:
        started.set()
        os.read(pipe[0], 1)

    pipe = os.pipe()
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
        trains = threading.Thread(target=lambda: (pool.submit(read_for_ever).result(), hold.set()))
        trains.start()
        assert started.wait(SECONDS)
        deadline = time.monotonic() + SECONDS
        while "read_for_ever" not in (place := find_place(dump_stacks(trains.ident)) or ""):
            assert time.monotonic() < deadline, place
            time.sleep(0.01)
        os.write(pipe[1], b"x")
        trains.join(SECONDS)
    assert hold.is_set()
    os.close(pipe[0])
    os.close(pipe[1])


def test_a_wait_of_the_training_itself_is_named() -> None:
    received: queue.Queue[None] = queue.Queue()
    trains = threading.Thread(target=received.get, daemon=True)
    trains.start()
    deadline = time.monotonic() + SECONDS
    while not (place := find_place(dump_stacks(trains.ident)) or "").startswith(("threading.py", "queue.py")):
        assert time.monotonic() < deadline, place
        time.sleep(0.01)
    received.put(None)


def test_a_process_whose_interpreter_is_held_in_c_code_writes_its_stacks_after_a_signal() -> None:
    process = answering_process(HOLD)
    try:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        deadline, content = time.monotonic() + SECONDS, ""
        while HELD not in content:
            assert time.monotonic() < deadline, content
            assert request_stacks(process.pid, path) is None
            time.sleep(0.1)
            content = Path(path).read_text()
        for _ in range(10):
            assert request_stacks(process.pid, path) is None, "the signal ended it"
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()


def test_a_stopped_process_and_one_that_is_gone_are_named_and_get_no_signal() -> None:
    process = answering_process("import time; time.sleep(3600)")
    try:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: request_stacks(process.pid, path) == "its process is stopped (SIGSTOP)")
        process.kill()
        wait_for(lambda: request_stacks(process.pid, path) == "its process is gone")
        assert process.returncode is None, "nobody has asked for its end yet"
    finally:
        process.kill()
        process.communicate()
    assert request_stacks(process.pid, path) == "its process is gone"


def test_a_process_that_would_be_ended_by_the_signal_gets_none() -> None:
    process = subprocess.Popen(["sleep", "3600"])
    try:
        assert request_stacks(process.pid, __file__) == "its process does not answer"
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_stacks_are_kept_in_the_trials_folder_and_a_folder_that_is_gone_is_no_error(tmp_path: Path) -> None:
    saved = save_stacks(tmp_path, {0: WAITS, 1: SLEEPS})
    assert [path.name for path in saved] == ["stacks-rank0.txt", "stacks-rank1.txt"]
    assert saved[1].read_text() == SLEEPS
    assert save_stacks(tmp_path / "gone", {0: WAITS}) == []
