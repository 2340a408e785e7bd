from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.network.attention import attend, padding_bias


def test_attention_in_steps_equals_torchs_fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    q, k, v, bias = (torch.randn(shape) for shape in ((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 4), (2, 3, 5, 6)))
    monkeypatch.setattr("model.network.attention.dropout", lambda weights, p: weights)
    torch.testing.assert_close(attend(q, k, v, bias, 0.1), F.scaled_dot_product_attention(q, k, v, bias))
    torch.testing.assert_close(attend(q, k, v, None, 0.1), F.scaled_dot_product_attention(q, k, v))


def test_a_query_without_a_valid_key_stays_finite() -> None:
    valid = torch.tensor([[False, False, False], [True, False, True]])
    q, k, v = (torch.randn(2, 1, 3, 4) for _ in range(3))
    for p in (0.0, 0.1):
        assert torch.isfinite(attend(q, k, v, padding_bias(valid, q.dtype), p)).all()
    alone = F.scaled_dot_product_attention(q[1:], k[1:, :, ::2], v[1:, :, ::2])
    torch.testing.assert_close(attend(q, k, v, padding_bias(valid, q.dtype), 0.0)[1:], alone)
