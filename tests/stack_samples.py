"""Stacks as processes write them: of a thread that waits for other ranks, of one that reads, and what names it."""

from __future__ import annotations

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
