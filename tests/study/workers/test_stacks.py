"""Which of a trial's workers the others wait for."""

from __future__ import annotations

import pytest
from stack_samples import NAMED, SLEEPS, WAITS

from study.workers.stacks import choose_rank


@pytest.mark.parametrize(
    ("stacks", "silence", "expected"),
    [
        ({0: NAMED + WAITS, 1: NAMED + SLEEPS}, {}, (1, True)),
        ({0: NAMED + WAITS, 1: NAMED + WAITS}, {}, (0, False)),
        ({0: NAMED + SLEEPS, 1: NAMED + SLEEPS}, {}, (0, False)),
        ({0: NAMED + WAITS}, {1: "it is stopped"}, (1, True)),
        ({}, {0: "gone", 1: "gone"}, (0, False)),
        ({0: NAMED + WAITS}, {}, (0, True)),
    ],
)
def test_the_rank_that_the_others_wait_for_is_the_one_outside_of_what_all_do_together(
    stacks: dict[int, str], silence: dict[int, str], expected: tuple[int, bool]
) -> None:
    assert choose_rank(stacks, silence) == expected
