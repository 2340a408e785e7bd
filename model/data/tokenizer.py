"""SentencePiece unigram tokenizer, trained on the training text of a corpus."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from model.errors import UserError
from model.recipe.architecture import SpecialTokens, TokenizerConfig
from model.strict import write_atomically


class Tokenizer:
    """Text to piece ids and back; the file says which ids are bos, eos, unknown and pad. No such file: a UserError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged, or of another kind"
            raise UserError(f"{path}: holds no SentencePiece model ({reason})") from None

    @property
    def vocabulary(self) -> int:
        return self._pieces.vocab_size()

    def check(self, wanted: TokenizerConfig) -> None:
        """A UserError unless the pieces are as many, and the special ones where, the recipe has them."""
        pieces, special = self._pieces, wanted.special
        ids = {"bos": pieces.bos_id(), "eos": pieces.eos_id(), "unk": pieces.unk_id(), "pad": pieces.pad_id()}
        # A file without bos or pad is no matter: text never becomes these, and the decoder knows their ids.
        differing = {"vocabulary": (self.vocabulary, wanted.vocabulary)} | {
            f"special.{name}": (found, getattr(special, name))
            for name, found in ids.items()
            if found >= 0 or name == "eos"
        }
        for name, (found, said) in differing.items():
            if found != said:
                raise UserError(
                    f"{self._path}: its {name} is {found}, but the recipe's tokenizer.{name} is {said}; "
                    "give the tokenizer that the weights were trained with"
                )

    def labels(self, text: str) -> list[int]:
        """Piece ids with the final eos."""
        return [*self._pieces.encode(text), self._pieces.eos_id()]

    def text(self, ids: Sequence[int]) -> str:
        """The text up to the first eos; special pieces are left out."""
        pieces, ids = self._pieces, list(ids)
        ids = ids[: ids.index(pieces.eos_id())] if pieces.eos_id() in ids else ids
        return pieces.decode([one for one in ids if not pieces.is_control(one) and not pieces.is_unknown(one)])


def train_tokenizer(texts: Iterable[str], vocabulary: int, path: Path, special: SpecialTokens | None = None) -> None:
    """Train `vocabulary` pieces and write them to `path`; a vocabulary that the text cannot fill is a UserError."""
    special = special or SpecialTokens()
    buffer = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=buffer,
            model_type="unigram",
            vocab_size=vocabulary,
            character_coverage=1.0,
            bos_id=special.bos,
            eos_id=special.eos,
            unk_id=special.unk,
            pad_id=special.pad,
            num_threads=1,  # pieces must not depend on the machine
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split("] ")[-1].split())
        raise UserError(
            f"tokenizer.vocabulary is {vocabulary}, which the training text cannot give: {reason}"
        ) from None
    write_atomically(path, buffer.getvalue())
