"""Runs on the cluster, as a short job: runs a command, and prints what it printed and wrote as one line.

`python -m study.remote.answering [--file PATH] -- COMMAND...`: the line is read by `study.remote.requests`.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

ANSWER = "decred-study answers "
MOST_BYTES = 256 * 1024**2  # of files that are sent; they go through the dashboard's memory


def main(arguments: list[str]) -> int:
    """Run the command after `--`; the exit code is its own."""
    end = arguments.index("--")
    file = Path(arguments[1]) if arguments[0] == "--file" else None
    done = subprocess.run(arguments[end + 1 :], capture_output=True, text=True, check=False)
    answer = {"code": done.returncode, "out": done.stdout, "errors": done.stderr}
    if file is not None and file.exists() and done.returncode == 0:
        answer |= _pack(file)
    print(ANSWER + base64.b64encode(zlib.compress(json.dumps(answer).encode())).decode(), flush=True)
    return done.returncode


def _pack(file: Path) -> dict[str, str]:
    size = sum(path.stat().st_size for path in (file, *file.rglob("*")) if path.is_file())
    if size > MOST_BYTES:
        return {"too_large": f"{size / 1024**2:.0f} MiB"}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(file, arcname="file")
    return {"file": base64.b64encode(content.getvalue()).decode()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
