"""Estimation of n-gram language models: interpolated modified Kneser-Ney smoothing.

Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling (Harvard TR-10-98), section 3:

    p(w | h) = max(a(h w) - D(a(h w)), 0) / sum_v a(h v) + backoff(h) p(w | h'),   h' is h without its first token

a is the count at the highest order. Below it a(h w) is the number of different tokens that precede h w; an n-gram that
begins with bos has no such token and keeps its count. D(1), D(2) and D(3 and more) come from the counts of counts of
the order, backoff(h) is what they take away, so that p sums to 1. At the end of the recursion all V tokens are equally
likely, so every token has a probability in every context.

The n-grams of an order are nodes of a trie, numbered by (node of the context, token).
Shapes: T tokens of the text with bos, n_m n-grams of order m, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from model.errors import UserError

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # KenLM's, where a text is too small for counts of counts


@dataclass(frozen=True)
class Level:
    """The n-grams of one order m.

    `keys` (n_m,), ascending: node of the context * V + token. `shares` (n_m,): the first term of p. `backoff`
    (n_{m-1},): that of each context of m - 1 tokens; 1 where nothing follows it.
    """

    keys: np.ndarray
    shares: np.ndarray
    backoff: np.ndarray


@dataclass(frozen=True)
class _Counted:
    """The n-grams of one order in the text.

    `nodes` (T,): the n-gram that ends at each place, -1 where the sentence has begun too late. `first` (n_m,): a place
    where each ends.
    """

    keys: np.ndarray
    first: np.ndarray
    nodes: np.ndarray
    counts: np.ndarray


def estimate_levels(sentences: Iterable[Sequence[int]], order: int, vocabulary: int, bos: int) -> list[Level]:
    """The levels of orders 1 to `order`, from sentences of token ids with their eos and without bos.

    There are fewer where no sentence, with bos, is that long.
    Raises a UserError where there is no sentence.
    """
    lines = [np.array([bos, *sentence], dtype=np.int64) for sentence in sentences]
    if not lines:
        raise UserError("the text of the language model holds no sentence; give one that does")
    tokens, places = np.concatenate(lines), np.concatenate([np.arange(len(line)) for line in lines])
    counted: list[_Counted] = []
    for length in range(1, min(order, max(map(len, lines))) + 1):
        contexts = np.concatenate(([-1], counted[-1].nodes[:-1])) if counted else np.zeros_like(tokens)
        counted.append(_count(contexts * vocabulary + tokens, places >= length - 1))
    levels: list[Level] = []
    for length, one in enumerate(counted, start=1):
        adjusted = one.counts
        if length < len(counted):
            adjusted = _count_continuations(one, counted[length], places, length)
        if length == 1:
            adjusted = np.where(one.keys == bos, 0, adjusted)  # bos is never predicted
        levels.append(_smooth(one.keys, adjusted, vocabulary, len(counted[length - 2].keys) if length > 1 else 1))
    return levels


def _count(keys: np.ndarray, is_inside: np.ndarray) -> _Counted:
    """Number the n-grams that end at the places which are inside of their sentence."""
    (inside,) = np.nonzero(is_inside)
    unique, first, inverse, counts = np.unique(keys[inside], return_index=True, return_inverse=True, return_counts=True)
    nodes = np.full(len(keys), -1, dtype=np.int64)
    nodes[inside] = inverse
    return _Counted(unique, inside[first], nodes, counts)


def _count_continuations(one: _Counted, longer: _Counted, places: np.ndarray, length: int) -> np.ndarray:
    """How many different tokens precede each n-gram of a length, or its count where it begins with bos: (n_m,)."""
    different = np.bincount(one.nodes[longer.first], minlength=len(one.keys))
    return np.where(places[one.first] == length - 1, one.counts, different)


def find_discounts(counts: np.ndarray) -> tuple[float, float, float]:
    """D(1), D(2), D(3 and more): k - (k + 1) Y n_{k+1} / n_k, with n_k n-grams of count k and Y = n_1 / (n_1 + 2 n_2).

    KenLM's constants where one of n_1 to n_4 is 0, or one of the three is not above 0: every context has to keep
    something for what was never seen in it.
    """
    n = [int((counts == value).sum()) for value in range(5)]
    if min(n[1:]) == 0:
        return FALLBACK_DISCOUNTS
    share = n[1] / (n[1] + 2 * n[2])
    one, two, more = (k - (k + 1) * share * n[k + 1] / n[k] for k in (1, 2, 3))
    return FALLBACK_DISCOUNTS if min(one, two, more) <= 0 else (one, two, more)


def _smooth(keys: np.ndarray, counts: np.ndarray, vocabulary: int, contexts: int) -> Level:
    """The shares and the backoff of an order, from the adjusted counts (n_m,) of its n-grams."""
    taken = np.array([0.0, *find_discounts(counts)])[np.minimum(counts, 3)]
    parents = keys // vocabulary
    totals = np.bincount(parents, weights=counts, minlength=contexts)
    rest = np.bincount(parents, weights=taken, minlength=contexts)
    backoff = np.divide(rest, totals, out=np.ones(contexts), where=totals > 0)
    return Level(keys, (counts - taken) / totals[parents], backoff)
