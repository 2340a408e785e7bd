"""Greedy and beam search, attention alone or joint with CTC prefix scores, batched over utterances.

A hypothesis' score is the sum over its tokens of (1-w) log p_attention + w (log psi(h+c) - log psi(h)), divided by
its length to the power of the length penalty, eos counted and bos not (arXiv 1609.06773 for the joint rule).
Shapes: B utterances, K hypotheses an utterance, S encoder frames, V tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.decoding.ctc_prefix import PrefixScorer, PrefixState
from model.network.recogniser import Encoded, Recogniser
from model.recipe.architecture import SpecialTokens

Hypothesis = tuple[list[int], float]
IMPOSSIBLE = -1e10  # a finite floor: sums of it stay comparable, and no -inf - -inf becomes NaN


@torch.inference_mode()
def decode(
    model: Recogniser,
    features: Tensor,
    lengths: Tensor,
    beam: int = 1,
    ctc_weight: float = 0.0,
    max_length: int | None = None,
    length_penalty: float = 1.0,
) -> list[list[Hypothesis]]:
    """The n-best list of every utterance, best first: (token ids without bos, score).

    features (B, T, 80), lengths (B,) in frames. `max_length` counts bos; by default an utterance gets at most one token
    for each of its own encoder frames and eos. With `ctc_weight` 0 the CTC head is not used.
    """
    encoded = model.encode(features, lengths)
    return search(model, encoded, beam, ctc_weight, max_length, length_penalty)


def search(
    model: Recogniser,
    encoded: Encoded,
    beam: int,
    ctc_weight: float,
    max_length: int | None,
    length_penalty: float = 1.0,
) -> list[list[Hypothesis]]:
    """`decode` on encoder states that are already there."""
    B, device = encoded.states.shape[0], encoded.states.device
    beam = min(beam, model.decoder.final.out_features)
    limits = [max_length - 1] * B if max_length else [frames + 1 for frames in encoded.lengths.tolist()]
    audio = model.listen(encoded)
    ctc = _JointCTC(model, encoded, beam) if ctc_weight > 0 else None
    results = [_Finished(beam, limit, length_penalty) for limit in limits]
    tokens = torch.full((B * beam, 1), model.special.bos, device=device)
    # Hypotheses of one utterance start equal: all but the first wait until the first step has made them differ.
    scores = torch.full((B, beam), IMPOSSIBLE, device=device)
    scores[:, 0] = 0.0
    past = model.decoder.start()
    for length in range(1, max(limits) + 1):
        logits = model.decoder.step(tokens[:, -1].view(B, beam), audio, past)
        gain = logits.float().log_softmax(dim=-1)  # (B, K, V)
        if ctc:
            gain[..., ctc.unspoken] = IMPOSSIBLE
            gain = (1 - ctc_weight) * gain + ctc_weight * ctc.gain().view_as(gain)
        total = (scores[..., None] + gain).flatten(1)  # (B, K * V)
        candidates, indices = total.topk(min(2 * beam, total.shape[1]), dim=1)
        rows, scores = _choose(candidates, indices, gain.shape[-1], beam, tokens, results, length, model.special)
        tokens = torch.cat((tokens[rows.source], rows.token[:, None]), dim=1)
        if all(result.closed for result in results):
            break
        if beam > 1:  # a single hypothesis goes on from itself
            for one in past:
                one.select(rows.source)
        if ctc:
            ctc.extend(rows.source, rows.token)
    return [result.best() for result in results]


@dataclass(frozen=True)
class _Rows:
    """Which row (of B * K) each surviving hypothesis goes on from, and with which token."""

    source: Tensor
    token: Tensor


@dataclass
class _Finished:
    """The best finished hypotheses of one utterance; at `limit` tokens those still running are finished as they are."""

    size: int
    limit: int
    length_penalty: float
    closed: bool = False
    hypotheses: list[Hypothesis] = field(default_factory=list)

    def add(self, ids: list[int], total: float) -> None:
        self.hypotheses.append((ids, total / len(ids) ** self.length_penalty))
        self.hypotheses = self.best()

    def best(self) -> list[Hypothesis]:
        return sorted(self.hypotheses, key=lambda one: -one[1])[: self.size]

    def close_if_settled(self, best_running: float, length: int) -> None:
        """Closed when as many as asked for are finished and no running hypothesis of this length beats the worst.

        One hypothesis is greedy search: it ends with its first eos.
        """
        if len(self.hypotheses) < self.size:
            return
        self.closed = self.size == 1 or self.hypotheses[-1][1] >= best_running / length**self.length_penalty


def _choose(
    candidates: Tensor,
    indices: Tensor,
    vocabulary: int,
    beam: int,
    tokens: Tensor,
    results: list[_Finished],
    length: int,
    special: SpecialTokens,
) -> tuple[_Rows, Tensor]:
    """Split the 2K candidates of every utterance into finished and running hypotheses."""
    sources, taken, scores = [], [], []
    values, flat = candidates.tolist(), indices.tolist()
    for utterance, result in enumerate(results):
        running: list[tuple[int, int, float]] = []
        for rank, (value, index) in enumerate(zip(values[utterance], flat[utterance], strict=True)):
            row, token = utterance * beam + index // vocabulary, index % vocabulary
            if token != special.eos:
                running.append((row, token, value))
            elif rank < beam and not result.closed:
                result.add([*tokens[row, 1:].tolist(), special.eos], value)
            if len(running) == beam:
                break
        while len(running) < beam:  # fewer tokens than hypotheses asked for
            running.append((utterance * beam, special.pad, IMPOSSIBLE))
        if not result.closed:
            result.close_if_settled(values[utterance][0], length)
        if not result.closed and length == result.limit:
            for row, token, value in running:
                result.add([*tokens[row, 1:].tolist(), token], value)
            result.closed = True
        sources += [one[0] for one in running]
        taken += [one[1] for one in running]
        scores.append([one[2] for one in running])
    device = candidates.device
    return _Rows(torch.tensor(sources, device=device), torch.tensor(taken, device=device)), torch.tensor(
        scores, device=device
    )


class _JointCTC:
    """The CTC side of joint decoding: the prefix state belongs to the hypothesis."""

    def __init__(self, model: Recogniser, encoded: Encoded, beam: int) -> None:
        log_probs = encoded.ctc_logits.float().log_softmax(dim=-1)
        self.scorer = PrefixScorer(log_probs, encoded.lengths.to(log_probs.device), model.blank, beam)
        self.state: PrefixState = self.scorer.start()
        self.vocabulary = model.decoder.final.out_features
        blank = model.special.blank  # a token that is also the blank is never said, and neither is pad
        self.unspoken = [model.special.pad] if blank is None else [model.special.pad, blank]
        self.scores = self.state.score[:, None]

    def gain(self) -> Tensor:
        """log psi(h + c) - log psi(h) for every token c: (B * K, V)."""
        self.scores = self.scorer.scores(self.state)
        gain = (self.scores - self.state.score[:, None]).clamp_min(IMPOSSIBLE)[:, : self.vocabulary]
        gain[:, self.unspoken] = IMPOSSIBLE
        return gain.nan_to_num(nan=IMPOSSIBLE).float()

    def extend(self, source: Tensor, token: Tensor) -> None:
        scores = self.scores[source, token].clamp_min(IMPOSSIBLE)
        self.state = self.scorer.extend(self.state.select(source), token, scores)


@torch.inference_mode()
def decode_ctc(model: Recogniser, encoded: Encoded) -> list[list[int]]:
    """Best path of the CTC head: repeats collapsed, blanks removed."""
    best = encoded.ctc_logits.argmax(dim=-1)
    results = []
    for path, length in zip(best, encoded.lengths.tolist(), strict=True):
        collapsed = torch.unique_consecutive(path[:length])
        results.append(collapsed[collapsed != model.blank].tolist())
    return results
