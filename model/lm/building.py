"""Making a language model: texts of a recipe's corpus or of files, to a model and what its file says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from model.corpora.corpus import Corpus, Role
from model.corpora.normaliser import normalise
from model.data.tokenizer import Tokenizer
from model.errors import UserError
from model.lm.files import LanguageModel, LmHeader, fingerprint_tokenizer
from model.lm.ngram import NgramLm
from model.lm.scorer import TextScore, score_sentences, sum_scores
from model.lm.transformer import TransformerLmConfig
from model.lm.transformer_training import LmTraining, Report, train_transformer


@dataclass(frozen=True)
class Text:
    """Sentences as token ids with the final eos, and the number of their words."""

    sentences: list[list[int]]
    words: int

    @property
    def tokens(self) -> int:
        return sum(map(len, self.sentences))


def encode_text(sentences: Sequence[str], tokenizer: Tokenizer) -> Text:
    """The sentences as token ids."""
    return Text(tokenizer.encode_all(sentences), sum(len(sentence.split()) for sentence in sentences))


def read_sentences(path: Path, normaliser: str) -> Iterator[str]:
    """The sentences of a UTF-8 file, one in each line, each normalised; empty ones are left out.

    Raises a UserError where the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            for line in stream:
                if text := normalise(normaliser, line).strip():
                    yield text
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason}); give a text file with a sentence in each line") from None


def read_corpus_sentences(corpus: Corpus, role: Role) -> list[str]:
    """The texts of all sets of a corpus with this role."""
    return [text for name in corpus.set_names(role) for text in corpus.texts(name)]


def build_ngram(train: Text, dev: Text, tokenizer: Tokenizer, bos: int, order: int) -> tuple[NgramLm, LmHeader]:
    """An n-gram model of the training text, measured on the dev text where that holds a sentence."""
    model = NgramLm.estimate(train.sentences, order, tokenizer.vocabulary, bos)
    score = sum_scores(score_sentences(model, dev.sentences, bos)) if dev.sentences else None
    return model, _describe(model, train, score, tokenizer)


def build_transformer(
    train: Text,
    dev: Text,
    tokenizer: Tokenizer,
    bos: int,
    config: TransformerLmConfig,
    settings: LmTraining,
    report: Report,
    device: torch.device | str = "cpu",
) -> tuple[LanguageModel, LmHeader]:
    """A Transformer trained on the training text, of the epoch that is best on the dev text."""
    model = train_transformer(
        train.sentences, dev.sentences, tokenizer.vocabulary, bos, config, settings, report, device
    )
    score = sum_scores(score_sentences(model, dev.sentences, bos, device))
    return model, _describe(model, train, score, tokenizer)


def _describe(model: LanguageModel, train: Text, dev: TextScore | None, tokenizer: Tokenizer) -> LmHeader:
    return LmHeader(
        kind="ngram" if isinstance(model, NgramLm) else "transformer",
        tokenizer=fingerprint_tokenizer(tokenizer),
        vocabulary=tokenizer.vocabulary,
        order=model.order if isinstance(model, NgramLm) else None,
        transformer=None if isinstance(model, NgramLm) else model.config,
        sentences=len(train.sentences),
        tokens=train.tokens,
        dev_perplexity=dev.perplexity if dev is not None else None,
    )


def describe_size(model: LanguageModel) -> str:
    """How large a model is, in words."""
    if isinstance(model, NgramLm):
        return f"{model.order}-gram model, " + " + ".join(f"{size:,}" for size in model.sizes) + " n-grams"
    return f"Transformer, {sum(one.numel() for one in model.parameters()):,} parameters"
