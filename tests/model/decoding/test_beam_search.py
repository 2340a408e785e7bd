from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from model.decoding.beam_search import decode
from model.decoding.length_limit import find_limits
from model.network.losses import IGNORED
from model.network.recogniser import Recogniser, shift_right


@pytest.fixture
def model(make_recipe) -> Recogniser:
    torch.manual_seed(5)
    model = Recogniser(make_recipe()).eval()
    for parameter in model.parameters():  # spread the logits, so that hypotheses differ clearly
        torch.nn.init.normal_(parameter, std=0.3)
    return model


FEATURES, LENGTHS = torch.randn(3, 120, 80, generator=torch.Generator().manual_seed(0)), torch.tensor([120, 77, 40])


def greedy(model: Recogniser, row: int, steps: int) -> list[int]:
    encoded = model.encode(FEATURES[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1])
    ids = [0]
    for _ in range(steps):
        logits = model.decoder.final_logits(torch.tensor([ids]), model.prepare_memory(encoded))[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] == model.special.eos:
            break
    return ids[1:]


def test_one_beam_is_the_argmax_of_every_step(model: Recogniser) -> None:
    nbest = decode(model, FEATURES, LENGTHS, beam=1, max_length=12)
    assert [hypotheses[0].tokens for hypotheses in nbest] == [greedy(model, row, 11) for row in range(3)]


@pytest.mark.parametrize("max_length", [10, None])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("beam", [1, 4])
def test_an_utterance_decodes_the_same_alone_and_in_a_batch(
    model: Recogniser, beam: int, ctc_weight: float, max_length: int | None
) -> None:
    with torch.no_grad():
        model.decoder.final.weight[model.special.eos] = -1.0  # hypotheses run into their limits
    batch = decode(model, FEATURES, LENGTHS, beam, ctc_weight, max_length)
    for row in range(3):
        features, lengths = FEATURES[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1]
        alone = decode(model, features, lengths, beam, ctc_weight, max_length)[0]
        assert [ids for ids, _ in batch[row]] == [ids for ids, _ in alone]
        assert [score for _, score in batch[row]] == pytest.approx([score for _, score in alone], abs=1e-4)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("beam", [1, 4])
def test_utterances_that_have_ended_leave_the_batch_when_they_are_half_of_it(
    model: Recogniser, beam: int, ctc_weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        model.decoder.final.weight[model.special.eos] = -1.0  # each runs into its own limit
    step, sizes = model.decoder.step, []

    def record_size(tokens: torch.Tensor, *rest: object) -> torch.Tensor:
        sizes.append(len(tokens))
        return step(tokens, *rest)

    monkeypatch.setattr(model.decoder, "step", record_size)
    decode(model, FEATURES, LENGTHS, beam, ctc_weight)
    longest, second, _ = find_limits(model.encode(FEATURES, LENGTHS).lengths.tolist(), None)
    assert sizes == [3] * second + [1] * (longest - second)  # of three, two have to end before it pays to copy the rest


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 0.9])
def test_scores_are_finite_sorted_and_distinct_even_for_one_frame(model: Recogniser, ctc_weight: float) -> None:
    features = torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([60, 7])
    for nbest in decode(model, features, lengths, beam=100, ctc_weight=ctc_weight, max_length=5):
        scores = [score for _, score in nbest]
        assert all(score == score and abs(score) < float("inf") for score in scores)
        assert scores == sorted(scores, reverse=True)
        hypotheses = [tuple(ids) for ids, score in nbest if score > -1e6]
        assert len(set(hypotheses)) == len(hypotheses)


@torch.inference_mode()
def test_every_hypothesis_has_the_score_that_the_decoder_gives_its_tokens_together(model: Recogniser) -> None:
    nbest = decode(model, FEATURES, LENGTHS, beam=4, max_length=20)
    encoded = model.encode(FEATURES, LENGTHS)
    for rank in range(4):
        tokens = [hypotheses[rank].tokens for hypotheses in nbest]
        labels = pad_sequence([torch.tensor(ids) for ids in tokens], batch_first=True, padding_value=IGNORED)
        logits = model.classify(encoded, shift_right(labels, model.special))[-1]
        nll = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none").sum(dim=1)
        scores = [-float(total) / len(ids) for total, ids in zip(nll, tokens, strict=True)]
        assert [hypotheses[rank].score for hypotheses in nbest] == pytest.approx(scores, abs=1e-4)


def test_a_wider_beam_never_finds_a_worse_hypothesis_here(model: Recogniser) -> None:
    narrow, wide = (decode(model, FEATURES, LENGTHS, beam, ctc_weight=0.3, max_length=8) for beam in (1, 8))
    assert all(more[0].score >= fewer[0].score - 1e-6 for fewer, more in zip(narrow, wide, strict=True))
