"""The one error of this room; its message is one line with the numbers and what to change."""


class ClusterError(Exception):
    """The cluster cannot do what was asked, for a reason that the user can mend."""


def first_line(error: BaseException) -> str:
    """What an error says first; its kind where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__
