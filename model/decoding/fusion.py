"""Language models in decoding: shallow fusion, with the internal language model's share taken out.

What a token c adds to the score of a hypothesis h (model/decoding/beam_search.py) grows by

    lm_weight log p_LM(c | h) - ilm_weight log p_ILM(c | h)

The first term is shallow fusion. The second divides by what the decoder has learnt of the training text without the
audio, which the language model replaces (internal LM estimation, arXiv 2011.01991); it can be used alone, too. eos is
a token like others in both.
Shapes: N hypotheses, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.data.tokenizer import Tokenizer
from model.lm.files import LanguageModel, load_lm
from model.lm.internal import InternalLm, make_zero_memory
from model.lm.scorer import ScorerState, TokenScorer
from model.network.recogniser import Recogniser
from model.recipe.decoding import DecodingConfig, SearchConfig


@dataclass(frozen=True)
class Fusion:
    """Language models with their weights; a negative weight takes a model out."""

    terms: Sequence[tuple[float, TokenScorer]]

    def start(self) -> RunningFusion:
        """The state of a search that begins."""
        return RunningFusion([(weight, scorer.start()) for weight, scorer in self.terms])


class RunningFusion:
    """What the language models keep of the running hypotheses."""

    def __init__(self, states: Sequence[tuple[float, ScorerState]]) -> None:
        self._states = states

    def gain(self, tokens: Tensor) -> Tensor:
        """What each next token adds to the score after the hypotheses are continued with `tokens`: (N,) -> (N, V)."""
        return torch.stack([weight * state.step(tokens) for weight, state in self._states]).sum(dim=0)

    def select(self, rows: Tensor) -> None:
        """Hypothesis m continues what was hypothesis `rows[m]`, (M,)."""
        for _, state in self._states:
            state.select(rows)


def make_fusion(model: Recogniser, decoding: SearchConfig, tokenizer: Tokenizer) -> Fusion | None:
    """The fusion that a decoding asks for, None where it asks for none; a language model is read once and kept.

    Raises a UserError where its file is missing, damaged or was made for another tokenizer.
    """
    if not isinstance(decoding, DecodingConfig) or not decoding.fuses:
        return None
    terms: list[tuple[float, TokenScorer]] = []
    if decoding.lm_weight:
        path = Path(decoding.lm or "").resolve()
        state = path.stat() if path.is_file() else None
        stamp = (state.st_mtime_ns, state.st_size) if state else None
        device = str(model.device)
        terms.append((decoding.lm_weight, _load_kept(path, stamp, decoding.lm_fingerprint, tokenizer, device)))
    if decoding.ilm_weight:
        memory = make_zero_memory(model.decoder) if decoding.ilm_estimator == "zeroed" else None
        terms.append((-decoding.ilm_weight, InternalLm(model.decoder, memory)))
    return Fusion(terms)


@functools.lru_cache(maxsize=2)
def _load_kept(
    path: Path, stamp: tuple[int, int] | None, fingerprint: str | None, tokenizer: Tokenizer, device: str
) -> LanguageModel:
    """`load_lm`; `stamp` is the file's time and size, so that one that has changed is read again."""
    return load_lm(path, tokenizer, fingerprint, device)
