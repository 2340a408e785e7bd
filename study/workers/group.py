"""A standing group of workers under Ray Train: processes and process group stay, recipe after recipe.

Starting a Ray Train run costs ten seconds on a small machine, rebuilding a model almost nothing. So one run of Ray
Train serves all trials of a driver: each of its workers has a connection of its own to the driver, over which recipes
come.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Collection
from multiprocessing.connection import Connection
from pathlib import Path

import ray

from cluster.errors import ClusterError
from cluster.placement_groups import list_placement_groups, remove_placement_groups_of
from model.runtime.child_processes import dump_children
from model.runtime.stacks import request_stacks
from study.workers.connections import CONTROLLER, WorkerListener
from study.workers.crew import Crew
from study.workers.failure import Failure, FailureKind
from study.workers.messages import Close, CrewConfig, SendStacks, Stacks, ToDriver, ToWorker, decode, encode
from study.workers.trainer import find_root_cause, make_trainer
from study.workers.worker import one_line

END_SECONDS = 15.0  # for Ray to end a run
ELSEWHERE_SECONDS = 60.0  # for room, where some nodes are avoided
STACK_SECONDS = 5.0  # for the workers to send where they are
SIGNAL_SECONDS = 1.0  # for one to write it into a file, where it could not send it
CAUSE_SECONDS = 2.0  # for Ray to report how a worker ended whose connection was closed


class Group(Crew):
    """Workers of a Ray Train run that lasts until `close`, on any machines of the cluster."""

    def __init__(self, config: CrewConfig, avoided: Collection[str] = ()) -> None:
        """No worker is placed on the nodes with the `avoided` ids of Ray."""
        super().__init__(config.count, config.stall_seconds, config.start_seconds, config.stall_epochs)
        self._config = config
        self._arrivals: queue.Queue[tuple[int, ToDriver] | Failure] = queue.Queue()
        self._lock = threading.Lock()
        self._connections: dict[int, Connection] = {}  # of ranks, and of the controller
        self._unsent: dict[int, ToWorker] = {}  # messages for workers that are not connected yet
        self._controller: str | None = None  # its actor's id
        self._lost: int | None = None  # the first worker whose connection was closed; Ray Train then ends the others
        self._loss = threading.Event()
        self._closed = False
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._deadline = threading.Timer(config.start_seconds, self._give_up)
        self._deadline.daemon = True
        # Of the nodes that are left, others may have all; then another driver's workers have a place there.
        self._patience = threading.Timer(ELSEWHERE_SECONDS, self._give_up_elsewhere)
        self._patience.daemon = True
        self._listener: WorkerListener | None = None
        try:
            self._listener = WorkerListener(ray.util.get_node_ip_address(), config.count, self._serve)
        except ClusterError as error:
            self._arrivals.put(Failure(FailureKind.START, str(error)))
            return
        self._trainer = make_trainer(config, self._listener.address, avoided)
        self._deadline.start()
        if avoided:
            self._patience.start()
        threading.Thread(target=self._fit, daemon=True).start()

    def close(self) -> None:
        """End the workers and release their resources, whatever they are doing."""
        self.usable = False
        with self._lock:
            if self._closed or self._listener is None:
                return
            self._closed = True
        self._stop_timers()
        self._listener.close()
        for rank in range(self.count):
            self._send(rank, Close())
        with self._lock:
            if CONTROLLER in self._connections:
                self._connections[CONTROLLER].close()  # it ends, and Ray ends the workers with it
        self._ended.wait(END_SECONDS)
        if self._controller is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                remove_placement_groups_of(self._controller)

    @property
    def has_started(self) -> bool:
        with self._lock:
            return self._is_complete()

    def _find_stacks(self) -> tuple[dict[int, str], dict[int, str]]:
        self._send_all(SendStacks())
        stacks: dict[int, str] = {}
        silence: dict[int, str] = {}
        deadline = time.monotonic() + STACK_SECONDS
        while len(stacks) < self.count and (left := deadline - time.monotonic()) > 0:
            received = self._receive(left)
            if isinstance(received, tuple) and isinstance(received[1], Stacks):
                stacks[received[0]] = received[1].content
        for rank in set(range(self.count)) - set(stacks):
            stacks[rank], silence[rank] = self._find_by_signal(rank)
        return {rank: content for rank, content in stacks.items() if content}, silence

    def _find_by_signal(self, rank: int) -> tuple[str, str]:
        """The stacks of a worker that did not send them, as far as they can be had here, and why it did not."""
        running = self._ranks.get(rank)
        if running is None or running.pid is None or running.stacks_file is None:
            return "", "it is not known where it runs"
        if running.node != socket.gethostname():
            return "", f"process {running.pid} is stopped, or no other thread of it can run"
        if why := request_stacks(running.pid, running.stacks_file):
            return "", why
        time.sleep(SIGNAL_SECONDS)
        with contextlib.suppress(OSError):
            stacks = Path(running.stacks_file).read_text(encoding="utf-8", errors="replace")
            return stacks + dump_children(running.pid), "no other thread can run"
        return "", "its stacks cannot be read"

    def _send(self, rank: int, message: ToWorker) -> None:
        with self._lock:
            if rank not in self._connections:
                self._unsent[rank] = message
                return
            with contextlib.suppress(OSError):
                self._connections[rank].send_bytes(encode(message))

    def _receive(self, seconds: float) -> tuple[int, ToDriver] | Failure | None:
        try:
            return self._arrivals.get(timeout=seconds)
        except queue.Empty:
            return None

    def _fit(self) -> None:
        """Run Ray Train to its end, which is a failure unless `close` caused it."""
        try:
            self._trainer.fit()
        except Exception as error:  # Ray raises its own kinds, and those of the workers
            self._error = error.with_traceback(None)  # whose frames would keep the controller
        self._ended.set()
        self._stop_timers()
        with self._lock:
            if self._closed:
                return
            complete = self._is_complete()
        if not complete:
            reason = one_line(find_root_cause(self._error)) if self._error else "Ray Train ended"
            self._arrivals.put(Failure(FailureKind.START, f"the workers did not start: {reason}"))
        elif not self._loss.wait(CAUSE_SECONDS):  # their machine is gone, and nothing closed the connections
            self._arrivals.put(Failure(FailureKind.LOST, f"all {self.count} workers were lost{self._describe_error()}"))

    def _stop_timers(self) -> None:
        self._deadline.cancel()
        self._patience.cancel()

    def _give_up_elsewhere(self) -> None:
        """End a group that has no room on the nodes that are left, so that its trial can go to one that has."""
        if self._lacks_room():
            self._give_up(ELSEWHERE_SECONDS)

    def _lacks_room(self) -> bool:
        """Whether Ray has not found a place for the workers yet."""
        try:
            return self._controller is not None and not self._is_placed()
        except ray.exceptions.RayError:
            return False

    def _is_placed(self) -> bool:
        groups = [group for group in list_placement_groups() if group.creator == self._controller]
        return any(group.is_placed for group in groups)

    def _give_up(self, seconds: float | None = None) -> None:
        """End a group whose workers have not come in `seconds`, by default those that a start may take."""
        with self._lock:
            if self._closed or self._is_complete() or self._ended.is_set():
                return
            came = len([rank for rank in self._connections if rank != CONTROLLER])
        self.usable, lacks_room = False, self._lacks_room()
        seconds = self._config.start_seconds if seconds is None else seconds
        reason = f"{came} of {self.count} workers came within {seconds:g} s: {self._explain_wait()}"
        self.close()
        self._arrivals.put(Failure(FailureKind.START, reason, lacks_room=lacks_room))

    def _explain_wait(self) -> str:
        """What a start waits for, as far as Ray can say, and what to do about it."""
        assert self._listener is not None
        if self._controller is None:
            return "Ray Train did not start beside the trial's driver; see Ray's logs on that machine"
        try:
            is_placed = self._is_placed()
            total, free = ray.cluster_resources(), ray.available_resources()
        except ray.exceptions.RayError as error:
            return f"Ray's head does not answer ({one_line(error)})"
        if is_placed:
            return (
                f"they have their resources, but did not connect to the driver at {self._listener.address}; see the "
                "workers' logs of Ray, and whether that port is open between the machines"
            )
        each = {"CPU": self._config.cpus} | ({"GPU": self._config.gpus} if self._config.gpus else {})
        wanted = ", ".join(f"{name} {amount:g}" for name, amount in each.items())
        found = ", ".join(f"{name} {free.get(name, 0.0):g} of {total.get(name, 0.0):g}" for name in each)
        return (
            f"Ray has no room for {self.count} workers with {wanted} each, free in the whole cluster: {found}; add "
            "machines, wait until others release theirs, or lower workers.count or what each worker gets"
        )

    def _is_complete(self) -> bool:
        return all(rank in self._connections for rank in range(self.count))

    def _serve(self, rank: int, actor: str, connection: Connection) -> None:
        """Take a connection that was accepted, and read it to its end."""
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._connections[rank] = connection
            if rank == CONTROLLER:
                self._controller = actor
                return
            if (message := self._unsent.pop(rank, None)) is not None:
                with contextlib.suppress(OSError):
                    connection.send_bytes(encode(message))
            if self._is_complete():
                self._stop_timers()
        self._read(rank, connection)

    def _read(self, rank: int, connection: Connection) -> None:
        try:
            while True:
                self._arrivals.put((rank, decode(connection.recv_bytes())))
        except (OSError, EOFError):
            with self._lock:
                if self._closed:  # from here: what failed before that is reported, such as its start
                    return
                self._lost = rank if self._lost is None else self._lost
            self._loss.set()
            self._ended.wait(CAUSE_SECONDS)
            reason = f"worker {self._lost} of {self.count} was lost{self._describe_error()}"
            place = self._ranks.get(self._lost)
            node, node_id = (place.node, place.node_id) if place else (None, None)
            self._arrivals.put(Failure(FailureKind.LOST, reason, node, node_id))

    def _describe_error(self) -> str:
        return f" ({one_line(find_root_cause(self._error))})" if self._error else ""
