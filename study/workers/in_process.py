"""A crew of one worker: a thread of the driver's own process, without Ray Train and without a process group."""

from __future__ import annotations

import os
import queue
import threading

from model.runtime.child_processes import dump_children
from model.runtime.stacks import dump_stacks
from model.runtime.stop_request import StopRequest
from study.workers.crew import Crew
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Close, Failed, Interrupt, Task, ToDriver, ToWorker
from study.workers.worker import DriverGoneError, one_line, serve


class _Channel:
    """The worker's end of a channel within one process."""

    def __init__(self) -> None:
        self.stop = StopRequest()
        self.to_worker: queue.Queue[ToWorker] = queue.Queue()
        self.to_driver: queue.Queue[ToDriver] = queue.Queue()

    def send(self, message: ToDriver) -> None:
        self.to_driver.put(message)

    def receive(self) -> ToWorker:
        message = self.to_worker.get()
        if isinstance(message, Close):
            raise DriverGoneError
        return message


class InProcess(Crew):
    """One worker, in a thread that outlives each recipe."""

    has_started = True

    def __init__(
        self,
        train: str,
        cpus: float,
        stall_seconds: float | None = None,
        start_seconds: float = 0.0,
        stall_epochs: float | None = None,
    ) -> None:
        super().__init__(1, stall_seconds, start_seconds, stall_epochs)
        self._channel = _Channel()
        self._thread = threading.Thread(target=_serve_in_thread, args=(self._channel, train, cpus), daemon=True)
        self._thread.start()

    def _send(self, rank: int, message: ToWorker) -> None:
        if isinstance(message, Interrupt):
            self._channel.stop.make()
            return
        if isinstance(message, Task):
            self._channel.stop = StopRequest()
        self._channel.to_worker.put(message)

    def _receive(self, seconds: float) -> tuple[int, ToDriver] | Failure | None:
        try:
            return 0, self._channel.to_driver.get(timeout=seconds)
        except queue.Empty:
            return None

    def _find_stacks(self) -> tuple[dict[int, str], dict[int, str]]:
        self.holds_process = True  # a thread cannot be ended
        return {0: dump_stacks(self._thread.ident) + dump_children(os.getpid())}, {}

    def close(self) -> None:
        """The thread ends when it receives next; a training that is under way ends with the process."""
        self.usable = False
        self._channel.to_worker.put(Close())


def _serve_in_thread(channel: _Channel, train: str, cpus: float) -> None:
    try:
        import torch

        torch.set_num_threads(max(1, int(cpus)))  # this thread's own number
        serve(channel, 0, train)
    except BaseException as error:  # a thread's error reaches no one else
        channel.send(Failed(FailureKind.ERROR, one_line(error), reusable=False))
        raise
