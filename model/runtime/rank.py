"""One process of a group that trains a recipe together: how it joins the group, and what it leaves when it fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import (
    NonFiniteLossError,
    OutOfMemoryError,
    ReadersLostError,
    SplitFurtherError,
    StalledError,
    TrainingInterruptedError,
    UserError,
)
from model.runtime.stacks import answer_signal, waits_for_others

if TYPE_CHECKING:
    from torch.distributed import Store

RANK_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FAILURES = "DECRED_FAILURES"  # the folder in which a rank leaves the error that ended it
ERROR_FILE = "error-{rank}.txt"
# The limit of a collective operation, as in studies: a rank may decode long utterances while the others wait. By NCCL's
# own, ten minutes, the others would end before the watch of their progress says where that rank hangs.
COLLECTIVE_SECONDS = 1800.0
TERMINATED = 128 + signal.SIGTERM
STALLED = 3  # the exit code of a rank that made no progress for too long
# A rank that hangs waits so long for its starter to end it: its own end would close the others' connections, and they
# would fail before they have kept where they wait.
STARTER_SECONDS = 60.0
KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (UserError, NonFiniteLossError, OutOfMemoryError, ReadersLostError, SplitFurtherError)
}
# A rank whose peer died only sees its connection close: the peer's own end is what is worth reading.
_ECHO = re.compile(r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket|DistBackendError", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """The error that ended a rank: its type's name, its message in one line, and when."""

    rank: int
    kind: str
    message: str
    at: float
    waits: bool = False  # whether it made no progress since it waited for the others

    @property
    def is_stalled(self) -> bool:
        """Whether the rank made no progress for too long."""
        return self.kind == StalledError.__name__

    @property
    def is_echo(self) -> bool:
        """Whether it may have come of another rank's end alone."""
        if self.is_stalled:
            return self.waits
        return self.kind not in KINDS and bool(_ECHO.search(f"{self.kind} {self.message}"))


def is_rank() -> bool:
    """Whether this process was started as one of a group, by torchrun or as `run_group` does."""
    return all(name in os.environ for name in RANK_VARIABLES)


@contextlib.contextmanager
def join_group() -> Iterator[Store]:
    """Make this process a rank of its group within the block, on its own GPU where there are GPUs.

    Gives the store in which the ranks have met.
    """
    import torch
    import torch.distributed as dist

    is_gpu = torch.cuda.is_available()
    if is_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Of dimensions of size 1, whose strides mean nothing.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    patience = timedelta(seconds=COLLECTIVE_SECONDS)
    store, rank, size = next(dist.rendezvous("env://", timeout=patience))
    own = dist.PrefixStore("group", store)  # the keys of the group's, apart from all others
    dist.init_process_group("nccl" if is_gpu else "gloo", store=own, rank=rank, world_size=size, timeout=patience)
    yield store
    dist.destroy_process_group()  # not after an error: it may wait for a rank that is gone


def run_rank(function: Callable[[], None], folder: Path) -> None:
    """Be one process of `run_group`: do the function's work as a rank, and end with what starts the group.

    An error is left for that process; what is no error of the user's is written into `folder` with its traceback.
    """
    threading.Thread(target=_end_with_starter, daemon=True).start()
    answer_signal()
    code, rank = 0, int(os.environ["RANK"])
    try:
        with join_group():
            function()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except TrainingInterruptedError:
        code = TERMINATED
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        code = 1
        _leave_failure(error, rank, folder)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # not through exit handlers, which may wait for ranks that are gone


def leave_stalled(line: str, place: str | None, rank: int) -> None:
    """End this process, a rank that hangs in `place`, from any thread. The line is left for its starter, which ends
    all ranks once the others have kept where they are; where there is none that reads it, it is printed."""
    failure = Failure(rank, StalledError.__name__, line, time.time(), waits_for_others(place))
    if FAILURES in os.environ:
        _leave(failure)
        time.sleep(STARTER_SECONDS)
    else:
        print(f"error: worker {rank}: {line}", file=sys.stderr, flush=True)
    os._exit(STALLED)


def _end_with_starter() -> None:
    sys.stdin.buffer.read()  # returns when the other end of the pipe is closed
    os._exit(1)


def _leave_failure(error: BaseException, rank: int, folder: Path) -> None:
    kind, message = type(error).__name__, " ".join(str(error).split())
    if kind not in KINDS:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            text = "".join(traceback.format_exception(error))
            (folder / ERROR_FILE.format(rank=rank)).write_text(text, encoding="utf-8")
            message = f"{message}; see {folder / ERROR_FILE.format(rank=rank)}"
    _leave(Failure(rank, kind, message, time.time()))


def read_failures(folder: Path) -> list[Failure]:
    """The failures that ranks have left so far, the first one first."""
    failures = [Failure(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")]
    return sorted(failures, key=lambda failure: failure.at)


def _leave(failure: Failure) -> None:
    with contextlib.suppress(OSError, KeyError):
        part = Path(os.environ[FAILURES], f"{failure.rank}.part")
        part.write_text(json.dumps(asdict(failure)), encoding="utf-8")
        part.rename(part.with_suffix(".json"))  # the starter reads it at any time
