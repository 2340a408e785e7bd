"""What a trial's driver and its workers send each other: frozen values, as JSON where they are sent over a socket.

driver -> worker   Task, then an Answer to each Report, and at any time Interrupt or SendStacks; Close at the end of
                   the crew
worker -> driver   Running when the recipe is read, a Report each epoch, then Done, Failed or Interrupted; in between
                   Progress, and Stacks where they were asked for
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, get_args

from study.workers.failure import FailureKind


@dataclass(frozen=True)
class Task:
    """A recipe to train in a trial's folder."""

    recipe: str  # as JSON
    recipe_hash: str
    folder: str
    score_tests: bool = True  # whether its test sets are scored in the end
    parts_file: str | None = None  # where a study keeps how batches are split to fit in memory
    study_folder: str | None = None  # a worker has to see it as the driver does: `study.workers.storage`
    study_id: str | None = None  # of the study in that folder
    session: str | None = None  # the name of the event file there that the driver has made


@dataclass(frozen=True)
class Answer:
    """The driver's answer to a report: whether training continues."""

    proceed: bool


@dataclass(frozen=True)
class Interrupt:
    """Write a checkpoint after the step that is under way, and leave the task. It waits while sets are scored."""


@dataclass(frozen=True)
class SendStacks:
    """Send where each thread is; answered while the worker trains, or hangs."""


@dataclass(frozen=True)
class Close:
    """No more tasks."""


@dataclass(frozen=True)
class Running:
    """A worker has read its recipe, whose hash proves that it reads it as the driver does."""

    recipe_hash: str
    node: str
    device: str
    node_id: str | None = None  # of Ray
    pid: int | None = None
    stacks_file: str | None = None  # what the process writes into after SIGUSR1, on its own machine


@dataclass(frozen=True)
class Progress:
    """The task got further: a step was taken, a batch was scored. Sent once a second at the most."""


@dataclass(frozen=True)
class Stacks:
    """Where each thread of a worker is, as `study.workers.stacks` writes it."""

    content: str


@dataclass(frozen=True)
class Report:
    """An epoch's metrics, those of worker 0; the others send none. The workers wait for the answer."""

    metrics: dict[str, float] = field(default_factory=dict)
    waited: float | None = None  # seconds for the answer to the report before
    node: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Done:
    """Training ended well."""


@dataclass(frozen=True)
class Failed:
    """Training raised an error; `reusable`: every worker has left training at the same place."""

    failure: FailureKind
    reason: str
    reusable: bool
    node: str | None = None
    node_id: str | None = None  # of Ray


@dataclass(frozen=True)
class Interrupted:
    """Training was left after an Interrupt, `place` says after which step, with a checkpoint."""

    place: str
    node: str | None = None
    node_id: str | None = None  # of Ray


ToWorker = Task | Answer | Interrupt | SendStacks | Close
ToDriver = Running | Progress | Stacks | Report | Done | Failed | Interrupted


_CLASSES: dict[str, type[Any]] = {cls.__name__: cls for cls in (*get_args(ToWorker), *get_args(ToDriver))}


def encode(message: ToWorker | ToDriver) -> bytes:
    """The message as bytes."""
    return json.dumps([type(message).__name__, dataclasses.asdict(message)]).encode()


def decode(content: bytes) -> Any:
    """The message in bytes that `encode` made."""
    name, fields = json.loads(content)
    if name == Failed.__name__:
        fields["failure"] = FailureKind(fields["failure"])
    return _CLASSES[name](**fields)


@dataclass(frozen=True)
class CrewConfig:
    """Which workers a study's trials get, and which function trains."""

    train: str  # module:function
    storage: str  # a folder for Ray Train's own files
    count: int = 1
    cpus: float = 1.0  # of each worker
    gpus: float = 0.0  # of each worker
    start_seconds: float = 600.0  # for all workers to come: an autoscaler takes minutes to add a machine
    stall_seconds: float | None = None  # without progress, after which they are ended; None: never
    stall_epochs: float | None = None  # not before so many times their usual epoch


@dataclass(frozen=True)
class TrialConfig:
    """What Tune hands to a trial's driver."""

    number: int
    task: Task
    is_baseline: bool
    confirms: bool = False  # whether it trains a finalist again; nothing is compared with it at a rung
    avoided: tuple[str, ...] = ()  # Ray's ids of the nodes that it is not placed on
