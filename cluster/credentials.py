"""The token of a Ray cluster: where Ray finds it, and the error where a cluster refuses it.

Ray 2.60 enables token authentication by itself when it starts a head, but not when it connects to an address that
was given: without RAY_AUTH_MODE=token it does not send the token in its usual file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cluster.errors import ClusterError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
USUAL_FILE = "~/.ray/auth_token"


def find_token_source() -> str | None:
    """Where Ray would find a token, in Ray's order: a variable's name or a file; None if there is no token."""
    if os.environ.get(TOKEN):
        return TOKEN
    file = os.environ.get(TOKEN_PATH) or USUAL_FILE
    try:
        return file if Path(file).expanduser().read_text(encoding="utf-8").strip() else None
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no home folder
        return None


def enable_token_authentication() -> None:
    """Have this process, and those it starts, send the token that this machine has.

    A mode that the user set is kept. A cluster without authentication ignores the token.
    """
    if MODE in os.environ or find_token_source() is None:
        return
    os.environ[MODE] = "token"
    if "ray" in sys.modules:  # it has read the mode already; Ray itself refreshes it in this way
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")


def refused_credentials_error(address: str) -> ClusterError:
    """The error of a cluster that refuses this machine: why, and what to change."""
    source, mode = find_token_source(), os.environ.get(MODE, "token").lower()
    if mode != "token":
        return ClusterError(f"the cluster at '{address}' requires a token, but {MODE} is '{mode}' here; unset it")
    if source is None:
        return ClusterError(
            f"the cluster at '{address}' requires a token, but there is none here; copy {USUAL_FILE} from the "
            f"cluster's head to this machine, or name the token's file in {TOKEN_PATH}"
        )
    return ClusterError(
        f"the cluster at '{address}' refuses the token in {source}; it has to equal {USUAL_FILE} on the cluster's head"
    )


def use_token_file(file: Path) -> None:
    """Have this process, and those it starts, send the token in a file instead of the usual one."""
    os.environ[TOKEN_PATH] = str(file)
    os.environ.pop(TOKEN, None)  # Ray prefers it
    enable_token_authentication()
