"""Greedy and beam search, with attention alone or joint with CTC prefix scores, batched over utterances.

The score of a hypothesis h is the sum over its tokens c of

    (1 - w) log p_attention(c | h) + w (log psi(h + c) - log psi(h))

and of what language models give to c (model/decoding/fusion.py), divided by its length to the power of the length
penalty, eos counted and bos not. w is the CTC weight and psi the CTC prefix probability (one-pass decoding of Hori et
al., ACL 2017, P17-1048), with eos as an ordinary label, as the models here are trained.
Shapes: B utterances, K hypotheses an utterance (the beam), S encoder frames, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from model.decoding.ctc_candidates import IMPOSSIBLE, CtcCandidates
from model.decoding.decoder_steps import open_steps
from model.decoding.fusion import Fusion
from model.decoding.length_limit import find_limits
from model.network.decoder import CrossAttentionMemory
from model.network.recogniser import EncoderOutput, Recogniser
from model.recipe.architecture import SpecialTokens


class Hypothesis(NamedTuple):
    """Token ids without bos, and their score (nats, divided as the length penalty has it)."""

    tokens: list[int]
    score: float


@torch.inference_mode()
def decode(
    model: Recogniser,
    features: Tensor,
    lengths: Tensor,
    beam: int = 1,
    ctc_weight: float = 0.0,
    max_length: int | None = None,
    length_penalty: float = 1.0,
    tokens_per_second: float | None = None,
    fusion: Fusion | None = None,
) -> list[list[Hypothesis]]:
    """The n-best list of every utterance, at most `beam` hypotheses, best first.

    features (B, T, 80), lengths (B,) in frames. `max_length` counts bos; by default an utterance gets at most one token
    for each of its own encoder frames and eos, or fewer with `tokens_per_second` (model/decoding/length_limit.py). A
    hypothesis of that length is returned although it has no eos. With `ctc_weight` 0 the CTC head is not used. `beam` 1
    is greedy search: it ends with its first eos.
    """
    encoded = model.encode(features, lengths)
    return beam_search(model, encoded, beam, ctc_weight, max_length, length_penalty, tokens_per_second, fusion)


def beam_search(
    model: Recogniser,
    encoded: EncoderOutput,
    beam: int,
    ctc_weight: float,
    max_length: int | None,
    length_penalty: float = 1.0,
    tokens_per_second: float | None = None,
    fusion: Fusion | None = None,
    memory: CrossAttentionMemory | None = None,
) -> list[list[Hypothesis]]:
    """`decode` for encoder states that are already computed, and `memory` where it is already prepared of them."""
    B, device, special = encoded.states.shape[0], encoded.states.device, model.special
    limits = [max_length - 1] * B if max_length else find_limits(encoded.lengths.tolist(), tokens_per_second)
    steps = open_steps(model.decoder, memory or model.prepare_memory(encoded), beam)
    ctc = CtcCandidates(model, encoded, beam, ctc_weight) if ctc_weight > 0 else None
    fused = fusion.start() if fusion else None
    results = [_NBest(beam, limit, length_penalty) for limit in limits]
    searched = results  # the utterances of the batch, which those that are closed leave
    tokens = torch.full((B * beam, 1), special.bos, device=device)
    # At the start the hypotheses of an utterance are equal, so all but the first are made impossible.
    scores = torch.full((B, beam), IMPOSSIBLE, device=device)
    scores[:, 0] = 0.0
    for length in range(1, max(limits) + 1):
        logits = steps.step(tokens[:, -1].view(-1, beam))
        # (U, K, V) of the U utterances that are left: sums without what CTC adds
        totals = (1.0 - ctc_weight) * logits.float().log_softmax(dim=-1) + scores[..., None]
        if fused:
            totals = totals + fused.gain(tokens[:, -1]).view_as(totals)
        # At most K of the best 2 K end in eos, so at least K hypotheses go on.
        count = min(2 * beam, beam * model.vocabulary)
        best, indices = ctc.best(totals, count) if ctc else totals.flatten(1).topk(count, dim=1)
        kept = _split_candidates(best.tolist(), indices.tolist(), tokens, model.vocabulary, searched, length, special)
        still_open = [utterance for utterance, result in enumerate(searched) if not result.closed]
        if not still_open:
            break
        utterances: Tensor | None = None
        if 2 * len(still_open) <= len(searched):  # not at each that closes: what is left is copied
            searched = [searched[utterance] for utterance in still_open]
            kept = kept.select(still_open, beam)
            utterances = torch.tensor(still_open, device=device)
            if ctc:
                ctc.select(utterances)
        rows, next_tokens = (torch.tensor(ids, device=device) for ids in (kept.rows, kept.tokens))
        scores = torch.tensor(kept.scores, device=device).view(-1, beam)
        tokens = torch.cat((tokens[rows], next_tokens[:, None]), dim=1)
        steps.select(rows, utterances)
        if fused and (beam > 1 or utterances is not None):  # else each single hypothesis continues itself
            fused.select(rows)
        if ctc:
            ctc.extend(rows, next_tokens)
    return [result.hypotheses() for result in results]


@dataclass
class _NBest:
    """The best finished hypotheses of one utterance, at most `size`, best first.

    Once closed it takes no more. At `limit` tokens the hypotheses that are still running are taken as they are.
    """

    size: int
    limit: int
    length_penalty: float
    closed: bool = False
    finished: list[Hypothesis] = field(default_factory=list)
    impossible: list[Hypothesis] = field(default_factory=list)

    def add(self, tokens: list[int], total: float) -> None:
        """Take a finished hypothesis whose gains sum to `total`."""
        hypothesis = Hypothesis(tokens, total / len(tokens) ** self.length_penalty)
        if total > IMPOSSIBLE / 2:
            self.finished = sorted([*self.finished, hypothesis], key=lambda other: -other.score)[: self.size]
        else:
            self.impossible.append(hypothesis)

    def close_if_settled(self, best_running: float, length: int) -> None:
        """Close it when it is full and no hypothesis of this length, with a sum of at most `best_running`, is better.

        With a size of 1, greedy search, that is when the first one ends in eos.
        """
        if len(self.finished) == self.size:
            self.closed = self.finished[-1].score >= best_running / length**self.length_penalty

    def hypotheses(self) -> list[Hypothesis]:
        """The n-best list; an impossible hypothesis is in it only where the search found no other."""
        return self.finished or self.impossible[:1]


@dataclass
class _Kept:
    """The hypotheses that go on, K for each utterance: the row (of B * K) that each continues, its token, its sum."""

    rows: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    def select(self, utterances: Sequence[int], beam: int) -> _Kept:
        """Those of some utterances."""
        places = [utterance * beam + place for utterance in utterances for place in range(beam)]
        rows, tokens = ([values[place] for place in places] for values in (self.rows, self.tokens))
        return _Kept(rows, tokens, [self.scores[place] for place in places])


def _split_candidates(
    best: list[list[float]],
    indices: list[list[int]],
    tokens: Tensor,
    vocabulary: int,
    results: list[_NBest],
    length: int,
    special: SpecialTokens,
) -> _Kept:
    """Sort the best candidates of each utterance, (B, 2 K) sums and places in (K, V), into finished and running.

    `tokens` (B * K, length) are those so far, bos first.
    """
    kept, beam = _Kept(), tokens.shape[0] // len(results)
    for utterance, result in enumerate(results):
        running: list[tuple[int, int, float]] = []
        for rank, (total, index) in enumerate(zip(best[utterance], indices[utterance], strict=True)):
            row, token = utterance * beam + index // vocabulary, index % vocabulary
            if token != special.eos:
                running.append((row, token, total))
            elif rank < beam and not result.closed:
                result.add([*tokens[row, 1:].tolist(), special.eos], total)
            if len(running) == beam:
                break
        if not result.closed:
            result.close_if_settled(best[utterance][0], length)
        if not result.closed and length == result.limit:
            for row, token, total in running:
                result.add([*tokens[row, 1:].tolist(), token], total)
            result.closed = True
        for row, token, total in running:
            kept.rows.append(row)
            kept.tokens.append(token)
            kept.scores.append(total)
    return kept
