"""From decoded tokens to a segment: its words, when they are spoken, and how sure the decoder is of them.

Shapes: B pieces of recordings, S encoder frames, U tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.data.frontend import FRAMES_PER_SECOND
from model.data.tokenizer import Tokenizer
from model.network.decoder import mix_logits
from model.network.losses import IGNORED
from model.network.recogniser import EncoderOutput, Recogniser, shift_right
from model.transcription.alignment import Span, align_tokens, frame_seconds, widen
from model.transcription.transcript import Segment, Word


@dataclass(frozen=True)
class Decoded:
    """Tokens of a piece, the frames of each, None where CTC has no path for them, and the log probability of each."""

    tokens: list[int]
    spans: list[Span | None] | None
    log_probs: list[float]


def measure_tokens(model: Recogniser, encoded: EncoderOutput, tokens: Sequence[list[int]]) -> list[Decoded]:
    """Alignment and probabilities of the tokens that were decoded from each of B pieces."""
    ctc = encoded.ctc_logits.float().log_softmax(dim=-1)
    log_probs = _score_tokens(model, encoded, tokens)
    return [
        Decoded(ids, align_tokens(ctc[row, :frames], ids, model.blank), log_probs[row, : len(ids)].tolist())
        for row, (ids, frames) in enumerate(zip(tokens, encoded.lengths.tolist(), strict=True))
    ]


def _score_tokens(model: Recogniser, encoded: EncoderOutput, tokens: Sequence[list[int]]) -> Tensor:
    """The decoder's log probability of each token after those before it, as it decodes: (B, U)."""
    rows = [torch.tensor(ids, dtype=torch.long) for ids in tokens]
    labels = pad_sequence(rows, batch_first=True, padding_value=IGNORED).to(encoded.states.device)
    classifiers = model.classify(encoded, shift_right(labels, model.special))
    mixing = model.decoder.mixing
    logits = classifiers[-1] if mixing is None else mix_logits(classifiers, mixing)
    return logits.float().log_softmax(dim=-1).gather(2, labels.clamp_min(0)[..., None])[..., 0]


def make_segment(
    decoded: Decoded, tokenizer: Tokenizer, start: float, loudness: np.ndarray, convolution_padding: int
) -> Segment | None:
    """The segment of a piece that begins `start` seconds into its recording; None where no word was decoded.

    `loudness` (T,) is that of the piece's feature frames.
    """
    text = tokenizer.decode(decoded.tokens)
    words = text.split()
    if not words:
        return None
    places = place_tokens(tokenizer, decoded.tokens, len(words))
    found = _find_spans(decoded, places, len(words))
    if found is not None:
        seconds = [(frame_seconds(a, convolution_padding), frame_seconds(b, convolution_padding)) for a, b in found]
        spans = widen(seconds, loudness)
    else:
        share = len(loudness) / FRAMES_PER_SECOND / len(words)
        spans = [(place * share, (place + 1) * share) for place in range(len(words))]
    log_probs = [0.0] * len(words)
    for place, value in zip(places, decoded.log_probs, strict=True):
        if place is not None:
            log_probs[place] += value
    timed = tuple(
        Word(word, start + max(begins, 0.0), start + ends, exp(min(log_prob, 0.0)), found is not None)
        for word, (begins, ends), log_prob in zip(words, spans, log_probs, strict=True)
    )
    return Segment(timed[0].start, timed[-1].end, text, timed)


def place_tokens(tokenizer: Tokenizer, tokens: Sequence[int], words: int) -> list[int | None]:
    """Which word of a text each of its tokens spells a part of; None where it spells nothing, as eos does."""
    places: list[int | None] = []
    spelt = ""
    for count in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[:count]).strip()
        places.append(min(len(text.split()), words) - 1 if text != spelt else None)
        spelt = text
    return places


def _find_spans(decoded: Decoded, places: Sequence[int | None], words: int) -> list[Span] | None:
    """The frames of each word, from the first of its tokens to the last; None where a word has none."""
    found: dict[int, Span] = {}
    for place, span in zip(places, decoded.spans or (), strict=False):
        if place is not None and span is not None:
            first, end = found.get(place, span)
            found[place] = (min(first, span[0]), max(end, span[1]))
    return [found[word] for word in range(words)] if len(found) == words else None
