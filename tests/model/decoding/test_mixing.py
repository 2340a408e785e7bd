"""Mixing the classifiers in decoding: exact where it must change nothing, never worse once learned, free when off."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.data.batches import Batch
from model.decoding.beam_search import decode
from model.decoding.mixing import (
    MIXING_FILE,
    cross_entropy,
    final_classifier_only,
    learn_mixing,
    load_mixing,
    save_mixing,
)
from model.errors import UserError
from model.network.decoder import mix_logits
from model.network.losses import IGNORED, Counts
from model.network.recogniser import Recogniser
from model.weights.published.checkpoint import save_pretrained

TWO = {"loss.auxiliary": {"placement": [1, 3], "weights": [0.3, 0.2]}}
FEATURES, LENGTHS = torch.randn(3, 90, 80, generator=torch.Generator().manual_seed(0)), torch.tensor([90, 77, 40])
LABELS = torch.tensor([[5, 6, 9, 1], [7, 1, IGNORED, IGNORED], [8, 8, 1, IGNORED]])
VOCABULARY = 40


def build(make_recipe, values: dict[str, Any] | None = None) -> Recogniser:
    torch.manual_seed(5)
    model = Recogniser(make_recipe(TWO | (values or {}))).eval()
    for parameter in model.parameters():  # spread the logits, so that hypotheses differ clearly
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def batches(epoch: int) -> Iterable[Batch]:
    rows = torch.randperm(3, generator=torch.Generator().manual_seed(epoch)).tolist()
    return [Batch([str(i)], FEATURES[i, None], LENGTHS[i, None], LABELS[i, None], Counts(1, 4)) for i in rows]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("per_token", [False, True])
def test_the_final_classifier_alone_equals_no_mixing(make_recipe, per_token: bool, ctc_weight: float) -> None:
    final_only = final_classifier_only(3, VOCABULARY if per_token else None)
    by_hand = build(make_recipe, {"decoding.mixing": final_only.tolist()})
    without = build(make_recipe)
    assert decode(by_hand, FEATURES, LENGTHS, 3, ctc_weight, 6) == decode(without, FEATURES, LENGTHS, 3, ctc_weight, 6)


@pytest.mark.parametrize("shape", [(3,), (3, VOCABULARY)])
def test_a_step_gives_the_weighted_sum_of_all_logits(make_recipe, shape: tuple[int, ...]) -> None:
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    model = build(make_recipe, {"decoding.mixing": weights.tolist()})
    encoded = model.encode(FEATURES, LENGTHS)
    tokens = torch.tensor([[0, 0], [0, 0], [0, 0]])
    logits = model.decoder.step(tokens, model.prepare_memory(encoded), model.decoder.new_caches())
    first = [scores[:, 0] for scores in model.classify(encoded, torch.zeros(3, 1, dtype=torch.long))]
    by_hand = weights[0] * first[0] + weights[1] * first[1] + weights[2] * first[2]
    torch.testing.assert_close(logits, by_hand[:, None].expand(-1, 2, -1), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(mix_logits(first, weights), by_hand)


def test_auxiliary_classifiers_are_evaluated_only_with_mixing(make_recipe) -> None:
    model, calls = build(make_recipe), []
    for head in model.decoder.auxiliary:
        head.register_forward_pre_hook(lambda *_: calls.append(1))
    decode(model, FEATURES, LENGTHS, 2, 0.0, 3)
    assert not calls
    model.decoder.mixing = torch.tensor([0.2, 0.3, 0.5])
    decode(model, FEATURES, LENGTHS, 2, 0.0, 2)
    assert len(calls) == 2
    assert not any("mixing" in name for name in model.state_dict())


@pytest.mark.parametrize("per_token", [False, True])
def test_learned_weights_lower_the_cross_entropy_and_leave_the_model_as_it_was(make_recipe, per_token: bool) -> None:
    model = build(make_recipe)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = learn_mixing(model, batches, per_token, epochs=3)
    start = final_classifier_only(3, VOCABULARY if per_token else None)
    assert weights.shape == start.shape
    assert cross_entropy(model, weights, batches(0)) < cross_entropy(model, start, batches(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(weights, learn_mixing(model, batches, per_token, epochs=3)), "equal batches give equal weights"


def test_a_rate_that_only_harms_leaves_the_weights_at_the_start(make_recipe) -> None:
    assert torch.equal(learn_mixing(build(make_recipe), batches, rate=1e6), final_classifier_only(3))


def test_saved_weights_are_loaded_from_the_checkpoints_folder(make_recipe, tmp_path: Path) -> None:
    weights = torch.tensor([0.2, 0.3, 0.5])
    assert save_mixing(weights, tmp_path) == tmp_path / MIXING_FILE
    loaded, by_hand = build(make_recipe), build(make_recipe, {"decoding.mixing": weights.tolist()})
    load_mixing(loaded, tmp_path)
    assert decode(loaded, FEATURES, LENGTHS, 2, 0.3, 6) == decode(by_hand, FEATURES, LENGTHS, 2, 0.3, 6)


def test_weights_that_are_missing_broken_or_of_another_model_are_refused(make_recipe, tmp_path: Path) -> None:
    model = build(make_recipe)
    with pytest.raises(UserError, match=r"mixing\.safetensors: is missing; learn the weights first, with `mix`"):
        load_mixing(model, tmp_path)
    (tmp_path / MIXING_FILE).write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"mixing\.safetensors: holds no mixing weights \(.+\); learn them again"):
        load_mixing(model, tmp_path)
    save_file({"weights": torch.ones(2)}, tmp_path / MIXING_FILE)
    message = re.escape("weights have shape (2,), but the model needs (3,) or (3, 40); learn them again")
    with pytest.raises(UserError, match=message):
        load_mixing(model, tmp_path)
    assert model.decoder.mixing is None


def test_a_model_without_auxiliary_classifiers_has_nothing_to_mix(make_recipe) -> None:
    with pytest.raises(UserError, match="mixing: the model has no auxiliary classifier to mix; train it with loss"):
        learn_mixing(Recogniser(make_recipe()), batches)


@pytest.mark.parametrize(
    ("mixing", "message"),
    [
        ([0.5, 0.5], "decoding.mixing has 2 weights, but there are 3 classifiers, the final one included; give one"),
        ([0.5, 0.5, [0.1] * VOCABULARY], "decoding.mixing must hold a number for each classifier, or for each"),
        ([[0.5] * 39] * 3, "or for each classifier as many as there are tokens, 40"),
    ],
)
def test_weights_by_hand_that_do_not_fit_are_refused(make_recipe, mixing: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make_recipe(TWO | {"decoding.mixing": mixing})


def test_the_published_layout_has_no_place_for_weights(make_recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"decoding\.mixing holds weights, but the published layout decodes with the"):
        save_pretrained(build(make_recipe, {"decoding.mixing": [0.0, 0.5, 0.5]}), tmp_path)
