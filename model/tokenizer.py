"""SentencePiece unigram tokenizer, trained on the training text of a corpus."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from model.errors import UserError
from model.strict import write_atomically

BOS, EOS, UNK, PAD = 0, 1, 2, 3
SPECIAL = 4


class Tokenizer:
    """Text to piece ids and back; ids 0 to 3 are bos, eos, unknown and pad."""

    def __init__(self, path: Path) -> None:
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())

    @property
    def vocabulary(self) -> int:
        return self._pieces.vocab_size()

    def labels(self, text: str) -> list[int]:
        """Piece ids with the final eos."""
        return [*self._pieces.encode(text), EOS]

    def text(self, ids: Sequence[int]) -> str:
        """The text up to the first eos; special pieces are left out."""
        ids = list(ids)
        ids = ids[: ids.index(EOS)] if EOS in ids else ids
        return self._pieces.decode([one for one in ids if one >= SPECIAL])


def train_tokenizer(texts: Iterable[str], vocabulary: int, path: Path) -> None:
    """Train `vocabulary` pieces and write them to `path`; a vocabulary that the text cannot fill is a UserError."""
    buffer = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=buffer,
            model_type="unigram",
            vocab_size=vocabulary,
            character_coverage=1.0,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            pad_id=PAD,
            num_threads=1,  # pieces must not depend on the machine
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split("] ")[-1].split())
        raise UserError(
            f"tokenizer.vocabulary is {vocabulary}, which the training text cannot give: {reason}"
        ) from None
    write_atomically(path, buffer.getvalue())
