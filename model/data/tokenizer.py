"""SentencePiece tokenizers: trained on the text of a corpus, or from a file.

Those that are trained here take text as it is: the corpus is normalised already, and what another normalisation changed
no hypothesis could ever have right. Text that is encoded and decoded comes back equal but for:

- runs of spaces, which become one, and spaces at the ends, which are dropped: no WER counts them;
- U+2581, which SentencePiece writes spaces as, and which comes back as a space;
- characters that are not in the training text, and NUL, U+001F and U+2585, which SentencePiece keeps for itself: they
  are unknown, and dropped in decoding. With `byte_fallback` they come back too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import sentencepiece

from model.data.sentences import Text, draw_sentences
from model.errors import UserError
from model.recipe.architecture import TokenizerConfig
from model.strict import write_atomically

TOKENIZER_FILE = "tokenizer.model"  # of a run, in its folder
TRAINING_VERSION = 2  # raised when the same text gives other pieces; 1 was SentencePiece's own normalisation
MOST_SENTENCES = 2_000_000  # a unigram training takes 20 bytes a character of them: 4 GB where they have 100
_LONGEST_SENTENCE = 1 << 30  # bytes; SentencePiece leaves out, in silence, those above 4192
_RESERVED = str.maketrans("", "", "\0\x1f \u2581\u2585")


class Tokenizer:
    """Text to piece ids and back. The file defines the ids of bos, eos, unknown and pad.

    Raises a UserError where the file holds no SentencePiece model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = path.read_bytes()
            if not self.content:  # SentencePiece takes it, and fails at the first text
                raise UserError(f"{path}: holds no SentencePiece model (it is empty)")
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=self.content)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "it is damaged, or of another kind"
            raise UserError(f"{path}: holds no SentencePiece model ({reason})") from None

    @property
    def vocabulary(self) -> int:
        return self._pieces.vocab_size()

    @property
    def pieces(self) -> list[str]:
        """The text of each piece, by its id."""
        return [self._pieces.id_to_piece(piece) for piece in range(self.vocabulary)]

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
        """The text up to the first eos; special pieces are skipped.

        Pieces of bytes become the characters that they spell in UTF-8; each byte that spells none becomes U+FFFD.
        """
        pieces, ids = self._pieces, list(ids)
        ids = ids[: ids.index(pieces.eos_id())] if pieces.eos_id() in ids else ids
        return pieces.decode([piece for piece in ids if not pieces.is_control(piece) and not pieces.is_unknown(piece)])


def train_tokenizer(text: Text, config: TokenizerConfig, path: Path) -> None:
    """Train pieces on the text and write them to `path`, whole or not at all.

    The pieces depend on the text and `config` alone. Raises a UserError where the vocabulary does not fit the text.
    """
    sentences, characters = draw_sentences(text, config.sentences or MOST_SENTENCES)
    buffer, met = io.BytesIO(), list[BaseException]()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_note_error(sentences, met),
            model_writer=buffer,
            model_type=config.kind,
            vocab_size=config.vocabulary,
            normalization_rule_name="identity",
            character_coverage=1.0,
            required_chars=characters.translate(_RESERVED),
            byte_fallback=config.byte_fallback,
            max_sentence_length=_LONGEST_SENTENCE,
            bos_id=config.special.bos,
            eos_id=config.special.eos,
            unk_id=config.special.unk,
            pad_id=config.special.pad,
            num_threads=1,  # pieces must not depend on the machine
            minloglevel=2,
        )
    except RuntimeError as error:
        if met:
            raise met[0] from None
        raise UserError(
            f"tokenizer.vocabulary is {config.vocabulary}, which the training text cannot give: {_explain(error)}"
        ) from None
    write_atomically(path, buffer.getvalue())


def _note_error(sentences: Iterable[str], met: list[BaseException]) -> Iterator[str]:
    """The sentences; an error in reading them is added to `met`, because SentencePiece passes on its words alone."""
    try:
        yield from sentences
    except (Exception, KeyboardInterrupt) as error:
        met.append(error)
        raise


def _explain(error: RuntimeError) -> str:
    """What SentencePiece says of a vocabulary that does not fit, without its own options, which no recipe has."""
    reason = " ".join(str(error).split("] ")[-1].split())
    if found := re.search(r"too high .* <= (\d+)", reason):
        return f"it has {found[1]} pieces at most; lower the vocabulary, or train on more text"
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", reason):
        return f"characters and special pieces alone are {found[1]}; raise the vocabulary"
    return reason or "it is empty"
