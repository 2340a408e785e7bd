"""The one error of this room; its message is one line with the numbers and what to change."""


class ClusterError(Exception):
    """The cluster cannot do what was asked, for a reason that the user can mend."""
