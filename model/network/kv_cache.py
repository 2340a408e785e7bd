"""The keys and values of tokens that are decoded, for one layer's self-attention.

Shapes: B utterances, K hypotheses of each, H heads, E width of one head, T entries of an utterance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CACHE_TOKENS = 16  # tokens of all hypotheses that there is room for, until entries that are no longer read are dropped


class KVCache:
    """Keys and values (B, H, T, E) of the tokens decoded so far: an entry for each token of each hypothesis.

    An entry stays where it is, whichever hypotheses continue it: `bias` (B, K, T) is 0 where a hypothesis reads an
    entry, and -inf elsewhere. So a step copies no keys, and what hypotheses have in common is read once for all.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor
    length = 0  # tokens of each hypothesis
    entries = 0  # of `keys`, which have room for more

    def attend(self, q: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Add the newest token of each hypothesis, and attend from it to all of its tokens: (B, H, K, E) each -> same.

        Without dropout.
        """
        self._append(key, value)
        keys, values = self.keys[:, :, : self.entries], self.values[:, :, : self.entries]
        bias = self.bias[:, None, :, : self.entries].to(q.dtype) if q.shape[2] > 1 else None  # one reads all its own
        return F.scaled_dot_product_attention(q, keys, values, bias)

    def select(self, rows: Tensor) -> None:
        """Hypothesis n continues what was hypothesis `rows[n]`; one that none continues is dropped.

        Of N = B * K hypotheses ordered by utterance. An utterance's continue its own, and some utterances may be left
        out; with one hypothesis each, any may continue any.
        """
        B, K, _ = self.bias.shape
        if K == 1 or len(rows) < B * K:
            utterances = rows.view(-1, K)[:, 0] // K
            self.keys, self.values = self.keys[utterances], self.values[utterances]
        self.bias = self.bias.flatten(0, 1)[rows].view(-1, K, self.bias.shape[2])

    def _append(self, key: Tensor, value: Tensor) -> None:
        B, _, K, _ = key.shape
        if self.length == 0:
            self.keys, self.values = (tensor[:, :, :0] for tensor in (key, value))
            self.bias = key.new_empty(B, K, 0, dtype=torch.float32)
            others = ~torch.eye(K, device=key.device, dtype=torch.bool)
            self._own = self.bias.new_zeros(K, K).masked_fill_(others, float("-inf"))
        if self.entries + K > self.keys.shape[2]:
            self._make_room(CACHE_TOKENS * K)
        end = self.entries + K
        self.keys[:, :, self.entries : end] = key
        self.values[:, :, self.entries : end] = value
        self.bias[:, :, self.entries : end] = self._own
        self.entries, self.length = end, self.length + 1

    def _make_room(self, more: int) -> None:
        """Keep the entries that a hypothesis reads, with room for `more`."""
        B, H, _, E = self.keys.shape
        K = self.bias.shape[1]
        is_read = (self.bias[:, :, : self.entries] == 0.0).any(dim=1)  # (B, T)
        kept = int(is_read.sum(dim=1).max()) if self.entries else 0
        places = is_read.byte().argsort(dim=1, descending=True, stable=True)[:, :kept]
        across_heads = places[:, None, :, None].expand(B, H, kept, E)
        for name in ("keys", "values"):
            tensor = getattr(self, name)
            larger = tensor.new_empty(B, H, kept + more, E)
            larger[:, :, :kept] = tensor.gather(2, across_heads)
            setattr(self, name, larger)
        bias = self.bias.new_empty(B, K, kept + more)
        bias[:, :, :kept] = self.bias.gather(2, places[:, None].expand(B, K, kept))
        self.bias, self.entries = bias, kept
