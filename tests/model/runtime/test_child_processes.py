"""Where the processes hang that a process has started, and the CPU that they use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from model.runtime.child_processes import dump_children, list_children, used_cpu
from model.runtime.processes import run_in_processes
from model.runtime.stacks import dump_stacks, find_place

SECONDS = 60.0  # that a busy machine may take
ANSWERS = "from model.runtime.stacks import answer_signal; answer_signal(); print('ready', flush=True); "
ROOT = Path(__file__).parents[3]


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts processes of Python code that print a line when they are ready; they are killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def read_state(process: subprocess.Popen[str]) -> str:
    """What Linux says that a process does: S it waits, T it is stopped."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def read_pipe(path: Path) -> int:
    """Wait for ever for the first byte."""
    return len(path.read_bytes())


def test_each_process_below_this_one_writes_where_it_is_or_is_named_with_why_it_does_not(
    start: Callable[[str], subprocess.Popen[str]],
) -> None:
    answers = start(ANSWERS + "import os; os.read(os.pipe()[0], 1)")
    silent = start("print('ready', flush=True); input()")
    stopped = start(ANSWERS + "input()")
    stopped.send_signal(signal.SIGSTOP)
    wait_for(lambda: read_state(stopped) == "T")
    parts = dump_children(os.getpid(), SECONDS).split("== process ")
    of = {int(part.split()[0]): part for part in parts if part.strip()}
    assert f"started by {os.getpid()}: its stacks" in of[answers.pid]
    assert 'File "<string>", line 1 in <module>' in of[answers.pid]
    assert "its process does not answer" in of[silent.pid]
    assert "its process is stopped (SIGSTOP)" in of[stopped.pid]
    assert silent.poll() is None, "the signal ended it"


def test_a_process_that_a_child_has_started_is_listed_after_it(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start("import subprocess; subprocess.Popen(['sleep', '60']); print('ready', flush=True); input()")
    try:
        listed = {child.pid: child for child in list_children(os.getpid())}
        (below,) = [child for child in listed.values() if child.parent == process.pid]
        assert below.name in ("sleep", "python", "python3")
        assert list(listed).index(process.pid) < list(listed).index(below.pid)
    finally:
        os.kill(below.pid, signal.SIGKILL)
    process.kill()
    process.wait()
    assert process.pid not in {child.pid for child in list_children(os.getpid())}


def test_the_cpu_that_a_process_below_this_one_uses_is_counted_and_a_wait_is_not(
    start: Callable[[str], subprocess.Popen[str]],
) -> None:
    busy = start("print('ready', flush=True)\nwhile True: pass")
    idle = start("print('ready', flush=True); input()")
    wait_for(lambda: read_state(idle) == "S")
    before = used_cpu(os.getpid())
    used = wait_for(lambda: (now := used_cpu(os.getpid()))[busy.pid] > before[busy.pid] + 0.1 and now)
    assert used[idle.pid] == before[idle.pid]


def test_a_worker_of_a_preparation_that_hangs_is_named_while_its_starter_waits(tmp_path: Path) -> None:
    pipes = [tmp_path / "first", tmp_path / "second"]
    for pipe in pipes:
        os.mkfifo(pipe)
    counts: list[int] = []
    starter = threading.Thread(target=lambda: counts.extend(run_in_processes(read_pipe, pipes, 2)))
    starter.start()
    found = ""

    def find() -> bool:
        nonlocal found
        found = dump_stacks(starter.ident) + dump_children(os.getpid())
        return found.count("in read_pipe") == 2

    wait_for(find)
    place = find_place(found.replace("/tests/model/runtime/", "/study/"))  # as if it were a file of this project's
    assert place is not None
    assert "pathlib.py" in place
    assert "called at study/test_child_processes.py" in place
    assert "in its process " in place
    for pipe in pipes:
        pipe.write_bytes(b"content")
    starter.join(SECONDS)
    assert counts == [7, 7]
