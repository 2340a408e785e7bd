"""Which sentences pieces are trained on where a corpus has more of them than SentencePiece can hold.

Those with the smallest hashes are drawn. So the draw depends on the sentences alone, not on their order, a seed or a
machine, and equal sentences are drawn together. The text is read twice and never held: first for the bound on hashes
and for all characters, then for the sentences within the bound.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sized
from typing import Protocol

import numpy as np

CHUNK = 1 << 16  # hashes that are compared at a time


class Text(Sized, Iterable[str], Protocol):
    """Sentences that can be read more than once, such as a list; or a corpus, which reads them from disk each time."""


def draw_sentences(text: Text, most: int) -> tuple[Iterable[str], str]:
    """At most `most` sentences in the order of the text, and the characters of the whole text that they may lack.

    Where the text has no more sentences than that, these are all, and no character is named.
    """
    if len(text) <= most:
        return text, ""
    characters: set[str] = set()
    bound, at_bound = _find_bound(_hash_all(text, characters), most)
    return _read_drawn(text, bound, at_bound), "".join(sorted(characters))


def hash_sentence(sentence: str) -> int:
    """64 bits that depend on the sentence alone."""
    return int.from_bytes(hashlib.blake2b(sentence.encode(), digest_size=8).digest(), "big")


def _hash_all(text: Text, characters: set[str]) -> Iterator[int]:
    """The hash of each sentence, whose characters are added to `characters`."""
    for sentence in text:
        characters.update(sentence)
        yield hash_sentence(sentence)


def _find_bound(hashes: Iterator[int], most: int) -> tuple[int, int]:
    """The largest of the `most` smallest hashes, and how many of these are equal to it."""
    smallest = np.empty(0, np.uint64)
    while len(chunk := np.fromiter(itertools.islice(hashes, CHUNK), np.uint64)):
        smallest = np.concatenate([smallest, chunk])
        if len(smallest) > most:
            smallest = np.partition(smallest, most - 1)[:most]
    bound = smallest.max()
    return int(bound), int((smallest == bound).sum())


def _read_drawn(text: Text, bound: int, at_bound: int) -> Iterator[str]:
    for sentence in text:
        number = hash_sentence(sentence)
        if number == bound:
            at_bound -= 1
        if number < bound or (number == bound and at_bound >= 0):
            yield sentence
