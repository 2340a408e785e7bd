"""Commands that are run where a study is: by a short job, whose output and file come back here."""

from __future__ import annotations

import base64
import io
import json
import shlex
import shutil
import tarfile
import tempfile
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.jobs.client import Jobs
from cluster.jobs.packing import measure, pack
from model.errors import UserError
from study.remote.answering import ANSWER

PACKAGES = ("model", "study", "cluster", "search_spaces")
PACKAGES_FOLDER = Path(__file__).resolve().parents[2]  # a checkout, or site-packages
REQUEST = "decred-study-request"  # in the metadata of such jobs, which are no studies


@dataclass(frozen=True)
class RequestResult:
    """What a command printed, and what it wrote: a tar archive of one file or folder, if that was asked for."""

    code: int
    out: str
    errors: str
    archive: bytes | None = None


def pack_project(folder: Path) -> None:
    """Copy this project's packages into a job's working folder."""
    pack(folder, [PACKAGES_FOLDER / name for name in PACKAGES])


def ask(
    jobs: Jobs, command: Sequence[str], env: dict[str, str], file: str | None = None, folder: Path | None = None
) -> RequestResult:
    """Run a command on the cluster and wait for it; `file` is what it writes and is sent back.

    `folder` is the upload that it runs in, by default one of this project alone. A UserError where nothing comes back.
    """
    with tempfile.TemporaryDirectory(prefix="decred-request-") as temporary:
        if folder is None:
            folder = Path(temporary)
            pack_project(folder)
        measure(folder)
        option = ["--file", file] if file is not None else []
        words = ["python", "-m", "study.remote.answering", *option, "--", *command]
        job_id = f"request-{uuid.uuid4().hex[:12]}"
        jobs.submit(folder, shlex.join(words), job_id, {REQUEST: " ".join(command)}, env)
        log = "".join(jobs.follow(job_id))
    return _read_answer(log, command, jobs, job_id)


def _read_answer(log: str, command: Sequence[str], jobs: Jobs, job_id: str) -> RequestResult:
    lines = [line for line in log.splitlines() if line.startswith(ANSWER)]
    if not lines:
        said = [line for line in (log + "\n" + jobs.find(job_id).message).splitlines() if line.strip()]
        reason = said[-1].strip() if said else "it printed nothing"
        raise UserError(
            f"the cluster at '{jobs.dashboard}' did not run `{' '.join(command)}` ({reason}); see its environment with "
            "`decred-study preflight`"
        )
    content = json.loads(zlib.decompress(base64.b64decode(lines[-1].removeprefix(ANSWER))))
    if "too_large" in content:
        raise UserError(f"what was written there has {content['too_large']}, too much to be sent; copy it by hand")
    archive = base64.b64decode(content["file"]) if "file" in content else None
    return RequestResult(content["code"], content["out"], content["errors"], archive)


def unpack(archive: bytes, out: Path) -> None:
    """Write the file or folder in an archive to `out`, over a file; a UserError where a folder is there."""
    if out.is_dir():
        raise UserError(f"{out} is a folder that exists already; give another -o")
    with tempfile.TemporaryDirectory(dir=out.resolve().parent, prefix=f".{out.name}.") as temporary:
        with tarfile.open(fileobj=io.BytesIO(archive)) as content:
            content.extractall(temporary, filter="data")
        shutil.move(Path(temporary, "file"), out)
