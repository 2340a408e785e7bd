"""Which of a trial's workers the others wait for."""

from __future__ import annotations

import pytest

from study.workers.stacks import choose_rank

WAITS = """
Thread 0x00007f0000000001 (most recent call first):
  File "/env/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 3155 in all_reduce
  File "/code/model/runtime/distributed.py", line 40 in sum_over_ranks
"""
SLEEPS = """
Thread 0x00007f0000000001 (most recent call first):
  File "/code/model/data/features.py", line 7 in read
"""
NAMED = "# 0x00007f0000000001 trains\n"


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
