"""Rows of an embedding, a classifier or a CTC head for the pieces of one tokenizer, from those of another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from model.recipe.architecture import SpecialTokens

Rows = dict[int, int]  # row here -> row there

_ROLES = ("pad", "unk", "bos", "eos")  # where two have one id, the later one decides


@dataclass(frozen=True)
class Vocabulary:
    """The text of each piece by its id, and the ids that are no text."""

    pieces: Sequence[str]
    special: SpecialTokens

    @property
    def blank(self) -> int:
        """The CTC head's row of the blank."""
        return len(self.pieces) if self.special.blank is None else self.special.blank


def match_rows(here: Vocabulary, there: Vocabulary) -> dict[str, Rows]:
    """Which rows mean the same: of `tokens`, in embedding and classifiers, and of `ctc`, whose blank may be a class.

    Special tokens are matched by what they are for, all others by the text of their pieces.
    """
    roles = {getattr(here.special, role): getattr(there.special, role) for role in _ROLES}
    ids = {piece: token for token, piece in enumerate(there.pieces) if token not in roles.values()}
    tokens = {token: ids[piece] for token, piece in enumerate(here.pieces) if token not in roles and piece in ids}
    tokens = dict(sorted((tokens | roles).items()))
    blanks = {here.blank: there.blank}
    text = {token: other for token, other in tokens.items() if token != here.blank and other != there.blank}
    return {"tokens": tokens, "ctc": dict(sorted((text | blanks).items()))}


def copy_rows(own: Tensor, given: Tensor, rows: Rows) -> Tensor:
    """`own` (V, ...) with its `rows` replaced by those of `given` (V', ...)."""
    merged = own.clone()
    merged[list(rows)] = given[list(rows.values())].to(own)
    return merged
