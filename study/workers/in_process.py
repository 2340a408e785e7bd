"""A crew of one worker: a thread of the driver's own process, without Ray Train and without a process group."""

from __future__ import annotations

import queue
import threading

from study.workers.crew import Crew
from study.workers.failure import Failure, Kind
from study.workers.worker import DriverGoneError, Message, one_line, serve


class _Ends:
    """The worker's end of a line within one process."""

    def __init__(self) -> None:
        self.to_worker: queue.Queue[Message | None] = queue.Queue()
        self.to_driver: queue.Queue[Message] = queue.Queue()

    def send(self, message: Message) -> None:
        self.to_driver.put(message)

    def receive(self) -> Message:
        message = self.to_worker.get()
        if message is None:
            raise DriverGoneError
        return message


class InProcess(Crew):
    """One worker, without Ray Train and without a process group."""

    def __init__(self, train: str, cpus: float) -> None:
        super().__init__(1)
        self._ends = _Ends()
        threading.Thread(target=_serve_alone, args=(self._ends, train, cpus), daemon=True).start()

    def _send(self, rank: int, message: Message) -> None:
        self._ends.to_worker.put(message)

    def _hear(self, seconds: float) -> tuple[int, Message] | Failure | None:
        try:
            return 0, self._ends.to_driver.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """The thread ends at its next word; a training that is under way ends with the process."""
        self._ends.to_worker.put(None)


def _serve_alone(ends: _Ends, train: str, cpus: float) -> None:
    try:
        import torch

        torch.set_num_threads(max(1, int(cpus)))  # this thread's own number
        serve(ends, 0, train)
    except BaseException as error:  # nobody else would hear of it
        ends.send({"kind": "broke", "failure": Kind.ERROR.value, "reason": one_line(error), "clean": False})
        raise
