"""Published checkpoints compute what the published implementation computed, within 1e-4 (tests/golden/NOTES.md)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.decoding.beam_search import decode
from model.evaluation.internal_lm import sequence_perplexities
from model.network.losses import ctc_sum, pack_ctc_targets

every = pytest.mark.parametrize("published", ["reguler_one_aux", "reguler_two_aux", "train_variant"], indirect=True)
released = pytest.mark.parametrize("published", ["reguler_one_aux", "reguler_two_aux"], indirect=True)


def assert_agree(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@every
@torch.inference_mode()
def test_states_and_ctc_logits_agree_in_a_padded_batch(published) -> None:
    encoded = published.model.encode(*published.input)
    assert encoded.lengths.tolist() == published.io["enc_out_lengths"].tolist()
    for row, length in enumerate(encoded.lengths.tolist()):
        assert_agree(encoded.states[row, :length], published.io["enc_last_hidden"][row, :length])
        assert_agree(encoded.ctc_logits[row, :length], published.io["ctc_logits"][row, :length])


@every
@torch.inference_mode()
def test_states_agree_for_an_utterance_alone_and_differ_from_the_batch(published) -> None:
    features, lengths = published.input
    length = int(lengths[2])
    encoded = published.model.encode(features[2:, :length], lengths[2:])
    assert_agree(encoded.states, published.io["solo_utt2_enc_last_hidden"])
    assert_agree(encoded.ctc_logits, published.io["solo_utt2_ctc_logits"])
    kept = int(encoded.lengths[0])
    batch = published.io["enc_last_hidden"][2, :kept]
    assert (encoded.states[0, :kept] - batch).abs().max() > 0.1, "padding leaks in the published model"


@every
@torch.inference_mode()
def test_every_classifier_agrees_auxiliary_ones_in_placement_order(published) -> None:
    logits = published.model.classify(published.model.encode(*published.input), published.io["decoder_input_ids"])
    theirs = [published.io[f"aux{index}_logits"] for index in range(len(logits) - 1)]
    for ours, golden in zip(logits, [*theirs, published.io["final_logits"]], strict=True):
        assert_agree(ours, golden)


@every
@torch.inference_mode()
@pytest.mark.parametrize("labels", ["", "unk_"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_agree_with_and_without_smoothing_and_inner_gaps(published, labels: str, smoothing: float) -> None:
    model, io = published.model, published.io
    losses = model.loss(*published.input, io[f"{labels}labels"], label_smoothing=smoothing)
    ctc = io["unk_enc_loss_reduction_mean"] if labels else io["lsm0_enc_loss"]
    per_classifier = io[f"{labels}per_head_ce_lsm0_lsm01"][:, 1 if smoothing else 0]
    attention = model.class_weights @ per_classifier
    assert_agree(losses.ctc, ctc[0])
    assert_agree(losses.per_classifier, per_classifier)
    assert_agree(losses.attention, attention)
    assert_agree(losses.total, 0.3 * ctc[0] + 0.7 * attention)


@every
@torch.inference_mode()
def test_a_summed_ctc_loss_agrees_too(published) -> None:
    encoded, labels = published.model.encode(*published.input), published.io["unk_labels"].long()
    ctc = ctc_sum(encoded.ctc_logits, encoded.lengths, pack_ctc_targets(labels, published.model.blank, "sum"))
    torch.testing.assert_close(ctc, published.io["unk_enc_loss_reduction_sum"][0], atol=1e-4, rtol=0)


@released
@torch.inference_mode()
def test_the_total_loss_is_the_one_they_report(published) -> None:
    for smoothing, key in ((0.0, "lsm0"), (0.1, "lsm01")):
        losses = published.model.loss(*published.input, published.io["labels"], label_smoothing=smoothing)
        assert_agree(losses.total, published.io[f"{key}_loss"][0])
        assert_agree(losses.attention, published.io[f"{key}_dec_loss"][0])


@pytest.mark.parametrize("published", ["train_variant"], indirect=True)
@torch.inference_mode()
def test_labels_are_shifted_once_where_the_training_code_shifts_them_twice(published) -> None:
    losses = published.model.loss(*published.input, published.io["labels"], label_smoothing=0.0)
    assert_agree(losses.attention, published.io["lsm0_dec_loss_single_shift"][0])
    assert abs(float(losses.attention - published.io["lsm0_dec_loss"][0])) > 0.5


@every
def test_internal_lm_perplexities_agree(published) -> None:
    # Beyond a few hundred, one float32 step of the mean NLL already moves a perplexity by more than 1e-4.
    ours = sequence_perplexities(published.model, published.io["ilm_ids"], published.io["ilm_attention_mask"])
    assert_agree(ours.log(), published.io["ilm_ppl"].log())
    torch.testing.assert_close(ours, published.io["ilm_ppl"], rtol=2e-6, atol=0)


@every
def test_greedy_search_gives_the_same_tokens(published) -> None:
    nbest = decode(published.model, *published.input, beam=1, ctc_weight=0.0, max_length=12)
    assert [hypotheses[0].tokens for hypotheses in nbest] == published.expected_tokens("greedy_ids")


@released
def test_greedy_joint_search_gives_the_same_tokens(published) -> None:
    nbest = decode(published.model, *published.input, beam=1, ctc_weight=0.3, max_length=12)
    assert [hypotheses[0].tokens for hypotheses in nbest] == published.expected_tokens("greedy_ctc03_ids")


@released
def test_beam_search_with_attention_alone_finds_the_same_at_the_same_score(published) -> None:
    nbest = decode(published.model, *published.input, beam=4, ctc_weight=0.0, max_length=12)
    assert [hypotheses[0].tokens for hypotheses in nbest] == published.expected_tokens("beam4_att_ids")
    scores = published.io["beam4_att_scores"].tolist()
    assert [hypotheses[0].score for hypotheses in nbest] == pytest.approx(scores, abs=1e-4)


@released
def test_joint_beam_search_finds_all_four_with_prefix_scores_of_each_hypothesis(published) -> None:
    nbest = decode(published.model, *published.input, beam=4, ctc_weight=0.3, max_length=12)
    found = [hypothesis for utterance in nbest for hypothesis in utterance]
    assert [ids for ids, _ in found] == published.expected_tokens("beam4_ctc03_exact_nbest_ids")
    scores = published.io["beam4_ctc03_exact_nbest_scores"].tolist()
    assert [score for _, score in found] == pytest.approx(scores, abs=1e-4)
