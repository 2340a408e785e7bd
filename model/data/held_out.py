"""Which sentences of a small corpus are held out: those whose words all stay in training, in other sentences."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

TRAINING_SENTENCES = 2  # that each word of a sentence that is held out is still in


def choose_sets(texts: Iterable[str], most: int) -> dict[str, str]:
    """The set of each sentence: of those of several words, at most so many are `dev` and `test` in turn, the others
    `train`."""
    sentences = set(texts)
    occurrences = Counter(word for sentence in sentences for word in set(sentence.split()))
    sets = dict.fromkeys(sentences, "train")
    held_out = 0
    for sentence in sorted(sentences, key=lambda text: hashlib.sha256(text.encode()).digest()):
        words = set(sentence.split())
        if held_out < most and len(words) > 1 and all(occurrences[word] > TRAINING_SENTENCES for word in words):
            sets[sentence] = "test" if held_out % 2 else "dev"
            held_out += 1
            occurrences.subtract(words)
    return sets
