"""The one error of this package; its message is one line: what was given, what is there, what to change."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster cannot do what was requested, for a reason that the user can change."""


def error_line(error: BaseException) -> str:
    """An error in one line: its first line, or the last one of a traceback that a server sent as its text."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return type(error).__name__
    return lines[-1] if any("Traceback (most recent call last)" in line for line in lines) else lines[0]
