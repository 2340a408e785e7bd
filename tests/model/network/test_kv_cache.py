"""Whatever hypotheses continue which, each attends to its own tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.network.kv_cache import CACHE_TOKENS, KVCache

HEADS, WIDTH = 2, 4


class Rows:
    """Keys and values of each hypothesis by itself, copied for each that continues it: (N, H, U, E)."""

    def __init__(self) -> None:
        self.keys = self.values = torch.empty(0)

    def attend(self, q: Tensor, key: Tensor, value: Tensor) -> Tensor:
        B, H, K, E = q.shape
        q, key, value = (tensor.transpose(1, 2).reshape(B * K, H, 1, E) for tensor in (q, key, value))
        self.keys = torch.cat((self.keys, key), dim=2) if self.keys.numel() else key
        self.values = torch.cat((self.values, value), dim=2) if self.values.numel() else value
        attended = F.scaled_dot_product_attention(q, self.keys, self.values)
        return attended.view(B, K, H, E).transpose(1, 2)

    def select(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    utterances=st.integers(1, 4),
    hypotheses=st.integers(1, 5),
    tokens=st.integers(1, 2 * CACHE_TOKENS + 3),
    leaving=st.floats(0.0, 0.2),
)
def test_a_step_attends_to_what_each_hypothesis_has_said(
    seed: int, utterances: int, hypotheses: int, tokens: int, leaving: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    cache, rows = KVCache(), Rows()
    for _ in range(tokens):
        shape = utterances, HEADS, hypotheses, WIDTH
        q, key, value = (torch.randn(shape, generator=generator) for _ in range(3))
        torch.testing.assert_close(cache.attend(q, key, value), rows.attend(q, key, value), atol=1e-5, rtol=1e-5)
        going_on = [one for one in range(utterances) if one == 0 or torch.rand((), generator=generator) >= leaving]
        continued = torch.randint(hypotheses, (len(going_on), hypotheses), generator=generator)
        selected = (continued + hypotheses * torch.tensor(going_on)[:, None]).flatten()
        cache.select(selected)
        rows.select(selected)
        utterances = len(going_on)


def test_entries_that_no_hypothesis_reads_are_dropped() -> None:
    cache, first = KVCache(), torch.zeros(8, dtype=torch.long)
    for _ in range(10 * CACHE_TOKENS):
        cache.attend(*torch.randn(3, 1, HEADS, 8, WIDTH))
        cache.select(first)  # all continue the first
    assert cache.keys.shape[2] < 10 * CACHE_TOKENS + (CACHE_TOKENS + 1) * 8


def test_single_hypotheses_may_continue_any_other() -> None:
    cache, rows, continued = KVCache(), Rows(), torch.tensor([2, 0, 2])
    for _ in range(3):
        q, key, value = torch.randn(3, 3, HEADS, 1, WIDTH)
        torch.testing.assert_close(cache.attend(q, key, value), rows.attend(q, key, value))
        cache.select(continued)
        rows.select(continued)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_attended_has_the_precision_of_the_queries(dtype: torch.dtype) -> None:
    assert KVCache().attend(*torch.randn(3, 2, HEADS, 3, WIDTH, dtype=dtype)).dtype == dtype
