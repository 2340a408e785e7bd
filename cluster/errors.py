"""The one error of this package; its message is one line: what was given, what is available, what to change."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster cannot do what was requested, for a reason that the user can change."""


def format_error(error: BaseException) -> str:
    """An error in one line: the first line of its message, or the last one where that is a server's traceback."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return type(error).__name__
    return lines[-1] if any("Traceback (most recent call last)" in line for line in lines) else lines[0]
