"""Text comes back from its pieces as it was, and pieces depend on the text and the recipe alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given
from hypothesis import strategies as st

from model.corpora.normaliser import normalise
from model.data import tokenizer
from model.data.tokenizer import Tokenizer, train_tokenizer
from model.errors import UserError
from model.recipe.architecture import BYTES, TokenizerConfig

PANGRAMS = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"]
# Unicode's NFKC gives each of them another form; the last two are spaces to Python and to readers.
COMPATIBLE = ["ﬁve", "Ｆｕｌｌ", "½", "x²", "Ⅳ", "①", "ﷺ", "…", "e\u0301", "a\u200bb", "１０\u00a0％", "a\u3000b"]
KINDS = st.sampled_from(["unigram", "bpe"])


def train(folder: Path, text: list[str], **values: object) -> Tokenizer:
    path = folder / "pieces.model"
    train_tokenizer(text, TokenizerConfig.model_validate(values), path)
    return Tokenizer(path)


@pytest.fixture(scope="module")
def with_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """A tokenizer of each kind that spells what it does not know in bytes."""
    return {
        kind: train(tmp_path_factory.mktemp(kind), PANGRAMS, vocabulary=290, kind=kind, byte_fallback=True)
        for kind in ("unigram", "bpe")
    }


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("normaliser", ["none", "basic", "whisper-english"])
def test_normalised_text_comes_back_equal(tmp_path: Path, kind: str, normaliser: str) -> None:
    text = [normalise(normaliser, sentence) for sentence in [*PANGRAMS, *COMPATIBLE, "Don't pay $20.50, or 5 %!"]]
    text = [sentence for sentence in text if sentence]
    pieces = train(tmp_path, text, vocabulary=len(set("".join(text))) + 6, kind=kind)
    assert [pieces.decode(labels) for labels in pieces.encode_all(text)] == text


def test_what_does_not_come_back_is_what_is_documented(tmp_path: Path) -> None:
    odd = [" two  spaces ", "a\u2581b", "nul\0", "unit\x1f", "block\u2585"]
    pieces = train(tmp_path, [*PANGRAMS, *odd], vocabulary=42)
    assert [pieces.decode(pieces.encode(text)) for text in odd] == ["two spaces", "a b", "nul", "unit", "block"]
    assert pieces.decode(pieces.encode("naïve fox")) == "nave fox"


@pytest.mark.parametrize("vocabulary", [40, 60])
def test_pieces_of_normalised_text_are_those_of_before_text_was_taken_as_it_is(
    corpus, tmp_path: Path, vocabulary: int
) -> None:
    text, path = corpus.texts("train"), tmp_path / "before.model"
    with path.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text),
            model_writer=stream,
            vocab_size=vocabulary,
            character_coverage=1.0,
            num_threads=1,
            minloglevel=2,
            **{"bos_id": 0, "eos_id": 1, "unk_id": 2, "pad_id": 3},
        )
    assert list_pieces(train(tmp_path, text, vocabulary=vocabulary)) == list_pieces(Tokenizer(path))


def test_a_sentence_of_any_length_gives_its_characters(tmp_path: Path) -> None:
    pieces = train(tmp_path, [*PANGRAMS, "a " * 3000 + "ß"], vocabulary=34)
    assert pieces.decode(pieces.encode("a ß")) == "a ß"


@given(KINDS, st.text())
@example("bpe", "nul\0 unit\x1f block\u2585")
@example("unigram", "  😀  \n")
def test_with_byte_fallback_any_text_comes_back_but_for_superfluous_spaces(
    with_bytes: dict[str, Tokenizer], kind: str, text: str
) -> None:
    expected = " ".join(word for word in text.replace("\u2581", " ").split(" ") if word)
    decoded = with_bytes[kind].decode(with_bytes[kind].encode(text))
    assert " ".join(word for word in decoded.split(" ") if word) == expected
    if "\u2581" not in text:
        assert decoded == expected


def spell(content: bytes) -> str:
    """Each shortest run of bytes that is a character in UTF-8, and U+FFFD for each byte that belongs to none."""
    text = ""
    while content:
        for length in range(1, 5):
            try:
                character = content[:length].decode()
            except UnicodeDecodeError:
                continue
            text, content = text + character, content[length:]
            break
        else:
            text, content = text + "\ufffd", content[1:]
    return text


UTF8 = st.lists(st.one_of(st.binary(max_size=4), st.text(max_size=2).map(str.encode))).map(b"".join)


@given(KINDS, UTF8)
@example("unigram", b"\xe2\x82")
@example("bpe", b"\xed\xa0\x80 \xc0\x80 \xf4\x90\x80\x80")
def test_bytes_that_spell_no_character_become_a_replacement_character_each(
    with_bytes: dict[str, Tokenizer], kind: str, content: bytes
) -> None:
    pieces = with_bytes[kind]
    byte_ids = {name: number for number, name in enumerate(list_pieces(pieces)) if re.fullmatch("<0x..>", name)}
    assert len(byte_ids) == BYTES
    assert pieces.decode([byte_ids[f"<0x{byte:02X}>"] for byte in content]) == spell(content)


def test_special_pieces_between_bytes_are_skipped(with_bytes: dict[str, Tokenizer]) -> None:
    pieces = with_bytes["unigram"]
    *labels, eos = pieces.encode("5 €")
    assert len(labels) == 6
    assert pieces.decode([0, *(part for label in labels for part in (label, 2, 3)), eos, 7]) == "5 €"


@pytest.mark.parametrize("byte_fallback", [False, True])
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize(
    ("above", "message"),
    [(700, r"cannot give: it has \d+ pieces at most; lower the vocabulary, or train on more text$"), (20, "raise")],
)
def test_a_vocabulary_that_does_not_fit_the_text_is_one_clear_line(
    tmp_path: Path, kind: str, byte_fallback: bool, above: int, message: str
) -> None:
    bytes_taken = BYTES if byte_fallback else 0
    if message == "raise":
        message = rf"cannot give: characters and special pieces alone are {bytes_taken + 31}; raise the vocabulary$"
    vocabulary = bytes_taken + above
    with pytest.raises(UserError, match=rf"^tokenizer.vocabulary is {vocabulary}, which the training text {message}"):
        train(tmp_path, PANGRAMS, vocabulary=vocabulary, kind=kind, byte_fallback=byte_fallback)
    assert not list(tmp_path.iterdir())


def test_a_text_of_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"which the training text cannot give: it is empty"):
        train(tmp_path, [""], vocabulary=40)


class TornText:
    """A text whose sentences end in an error."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __len__(self) -> int:
        return 100

    def __iter__(self) -> Iterator[str]:
        yield from PANGRAMS * 20
        raise self.error


@pytest.mark.parametrize("error", [UserError("train.cuts.jsonl.gz: cannot be read"), KeyboardInterrupt("stopped")])
@pytest.mark.parametrize("sentences", [None, 10])
def test_a_text_that_cannot_be_read_to_its_end_is_said_to_be_that(
    tmp_path: Path, error: BaseException, sentences: int | None
) -> None:
    with pytest.raises(type(error), match=f"^{error}$"):
        train_tokenizer(TornText(error), TokenizerConfig(vocabulary=36, sentences=sentences), tmp_path / "a.model")
    assert not list(tmp_path.iterdir())


class LongText:
    """A text that is never held: sentences made as they are read, a rare character in one of them."""

    def __len__(self) -> int:
        return 3000

    def __iter__(self) -> Iterator[str]:
        return (f"{PANGRAMS[number % 2]} {'ß' if number == 2999 else number}" for number in range(3000))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_pieces_of_drawn_sentences_still_have_all_characters(tmp_path: Path, kind: str) -> None:
    config = TokenizerConfig(vocabulary=60, kind=kind, sentences=50)
    train_tokenizer(LongText(), config, tmp_path / "drawn.model")
    train_tokenizer(list(LongText()), config, tmp_path / "again.model")
    assert (tmp_path / "drawn.model").read_bytes() == (tmp_path / "again.model").read_bytes()
    pieces = Tokenizer(tmp_path / "drawn.model")
    assert pieces.decode(pieces.encode("ß jugs 7")) == "ß jugs 7"
    everything = train(tmp_path, list(LongText()), vocabulary=60, kind=kind)
    assert list_pieces(everything) != list_pieces(pieces)


def test_without_a_number_of_sentences_a_limit_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = list(LongText())
    drawn = train(tmp_path, text, vocabulary=60, sentences=50).content
    assert train(tmp_path, text, vocabulary=60).content != drawn
    monkeypatch.setattr(tokenizer, "MOST_SENTENCES", 50)
    assert train(tmp_path, text, vocabulary=60).content == drawn
    assert train(tmp_path, text, vocabulary=60, sentences=3000).content != drawn


def test_two_processes_that_train_at_the_same_time_write_the_same_whole_file(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from model.data.tokenizer import train_tokenizer; "
        "from model.recipe.architecture import TokenizerConfig; "
        f"train_tokenizer({PANGRAMS}, TokenizerConfig(vocabulary=36), Path({str(tmp_path / 'pieces.model')!r}))"
    )
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["pieces.model"]
    assert Tokenizer(tmp_path / "pieces.model").content == train(tmp_path / "here", PANGRAMS, vocabulary=36).content


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"byte_fallback": True, "vocabulary": 256},
            "is 256, but tokenizer.byte_fallback takes 256 pieces for the bytes",
        ),
        ({"file": "a.model", "kind": "bpe"}, "tokenizer.kind is bpe, which is for pieces that are trained, but"),
        ({"file": "a.model", "sentences": 9}, "tokenizer.sentences is 9, which .*; leave out sentences or file"),
        ({"kind": "word"}, "Input should be 'unigram' or 'bpe'"),
        ({"sentences": 0}, "greater than or equal to 1"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizerConfig.model_validate(values)


def list_pieces(trained: Tokenizer) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=trained.content)
    return [processor.id_to_piece(number) for number in range(trained.vocabulary)]
