"""SentencePiece tokenizers: unigram ones trained on the text of a corpus, or any from a file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from model.errors import UserError
from model.recipe.architecture import SpecialTokens, TokenizerConfig
from model.strict import write_atomically

TOKENIZER_FILE = "tokenizer.model"  # of a run, in its folder


class Tokenizer:
    """Text to piece ids and back. The file defines the ids of bos, eos, unknown and pad.

    Raises a UserError where the file holds no SentencePiece model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = path.read_bytes()
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=self.content)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged, or of another kind"
            raise UserError(f"{path}: holds no SentencePiece model ({reason})") from None

    @property
    def vocabulary(self) -> int:
        return self._pieces.vocab_size()

    def check(self, expected: TokenizerConfig) -> None:
        """Raise a UserError unless the number of pieces and the special ids are the recipe's."""
        pieces, special = self._pieces, expected.special
        ids = {"bos": pieces.bos_id(), "eos": pieces.eos_id(), "unk": pieces.unk_id(), "pad": pieces.pad_id()}
        # A file without bos or pad is fine: text is never encoded as them, and the decoder knows their ids.
        compared = {"vocabulary": (self.vocabulary, expected.vocabulary)} | {
            f"special.{name}": (token, getattr(special, name))
            for name, token in ids.items()
            if token >= 0 or name == "eos"
        }
        for name, (own, recipe) in compared.items():
            if own != recipe:
                raise UserError(
                    f"{self.path}: its {name} is {own}, but the recipe's tokenizer.{name} is {recipe}; "
                    "give the tokenizer that the weights were trained with"
                )

    def encode(self, text: str) -> list[int]:
        """Piece ids with the final eos."""
        return [*self._pieces.encode(text), self._pieces.eos_id()]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, faster."""
        return self._pieces.encode(list(texts), add_eos=True)

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to the first eos; special pieces are skipped."""
        pieces, ids = self._pieces, list(ids)
        ids = ids[: ids.index(pieces.eos_id())] if pieces.eos_id() in ids else ids
        return pieces.decode([piece for piece in ids if not pieces.is_control(piece) and not pieces.is_unknown(piece)])


def train_tokenizer(texts: Iterable[str], vocabulary: int, path: Path, special: SpecialTokens | None = None) -> None:
    """Train `vocabulary` pieces and write them to `path`. Raises a UserError where the text has too few of them."""
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
