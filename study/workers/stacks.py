"""Which of a trial's workers the others wait for, from the stacks of all of them."""

from __future__ import annotations

from collections.abc import Mapping

from model.runtime.stacks import find_place, waits_for_others


def choose_rank(stacks: Mapping[int, str], silence: Mapping[int, str]) -> tuple[int, bool]:
    """The rank that the others wait for, and whether that is certain.

    It is one that does not answer, or the only one outside of what all ranks do together.
    """
    if silence:
        return min(silence), len(silence) == 1
    apart = [rank for rank, content in sorted(stacks.items()) if not waits_for_others(find_place(content))]
    return (apart[0] if apart else 0), len(apart) == 1 or len(stacks) == 1
