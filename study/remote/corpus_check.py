"""What preflight looks at on every node of a cluster beside the node itself: the corpus of a study.

Nothing is imported before it is used: a node may lack a package, which is a finding of its own.
"""

from __future__ import annotations

import functools
from pathlib import Path

from cluster.preflight.facts import Check
from model.errors import UserError

SHOWN = 12  # characters of a fingerprint
REMEDY = "mount the corpus there under the path that it has on the head, or correct `paths` in the profile"


def make_corpus_check(folder: str) -> Check:
    """The check of a corpus that lies under the same path on all nodes."""
    return Check("corpus", functools.partial(read_fingerprint, folder), REMEDY)


def read_fingerprint(folder: str) -> str:
    """The fingerprint of a corpus of which the first utterance of each set can be read; a UserError without remedy."""
    from model.corpora.corpus import read_corpus

    try:
        corpus = read_corpus(Path(folder))
        for name in corpus.sets:
            corpus.read_samples(next(corpus.entries(name)))
    except UserError as error:
        # What it advises is for a corpus that is damaged everywhere.
        raise UserError(str(error).partition("; ")[0].removeprefix("corpus ")) from None
    return f"fingerprint {corpus.fingerprint[:SHOWN]}"
