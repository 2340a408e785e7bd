"""InterCTC: the mean CTC loss of lower encoder layers takes its share of L_CTC, and nothing when it is off."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from model.errors import UserError
from model.network.losses import Counts, ctc_sum, decred_loss, pack_ctc_targets
from model.network.recogniser import Recogniser
from model.runtime.distributed import DistributedContext
from model.training.loop import start_or_resume, train_epoch
from model.weights.published.checkpoint import save_pretrained

ON = {"encoder.layers": 3, "loss.inter_ctc": {"layers": [1, 2], "weight": 0.4}}
FEATURES, LENGTHS = torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1)), torch.tensor([60, 41])
LABELS = torch.tensor([[5, 6, 1], [7, 1, -100]])


def build(make_recipe, values: dict[str, Any]) -> Recogniser:
    torch.manual_seed(3)
    return Recogniser(make_recipe(values)).eval()


def test_the_loss_equals_a_value_computed_by_hand() -> None:
    # One frame, label 0, p = 0.5 at the last layer, 0.25 and 0.125 at the two below: CTC is -log p.
    ctc, *lower = (
        ctc_sum(torch.tensor([[[p, 1 - p]]]).log(), torch.tensor([1]), pack_ctc_targets(torch.tensor([[0]]), blank=1))
        for p in (0.5, 0.25, 0.125)
    )
    attention = torch.tensor([2.0])
    losses = decred_loss(ctc, attention, torch.tensor([1.0]), 0.3, torch.stack(lower).mean(), 0.4)
    assert float(losses.ctc) == pytest.approx(math.log(2))
    assert float(losses.inter_ctc) == pytest.approx(2.5 * math.log(2))
    assert float(losses.total) == pytest.approx(0.3 * (0.6 + 0.4 * 2.5) * math.log(2) + 0.7 * 2)


def test_lower_layers_are_read_through_the_norm_and_the_head_of_the_last(make_recipe) -> None:
    model, outputs = build(make_recipe, ON), []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    losses = model.loss(FEATURES, LENGTHS, LABELS)
    frames = model.encode(FEATURES, LENGTHS).lengths
    by_hand = [
        ctc_sum(model.ctc(model.encoder.norm(output)), frames, pack_ctc_targets(LABELS, model.blank)) / 2
        for output in outputs[:3]
    ]
    torch.testing.assert_close(losses.inter_ctc, (by_hand[0] + by_hand[1]) / 2)
    torch.testing.assert_close(losses.ctc, by_hand[2])
    expected = 0.3 * (0.6 * losses.ctc + 0.4 * losses.inter_ctc) + 0.7 * losses.attention
    torch.testing.assert_close(losses.total, expected)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_parts_of_a_batch_add_up_to_the_loss_of_the_whole(make_recipe, reduction: str) -> None:
    model, counts = build(make_recipe, ON | {"loss.ctc_reduction": reduction}), Counts(2, 5)
    whole = model.loss(FEATURES, LENGTHS, LABELS)
    parts = [model.loss(FEATURES[i : i + 1], LENGTHS[i : i + 1], LABELS[i : i + 1], counts=counts) for i in (0, 1)]
    torch.testing.assert_close(parts[0].inter_ctc + parts[1].inter_ctc, whole.inter_ctc)
    torch.testing.assert_close(parts[0].total + parts[1].total, whole.total)


def test_off_it_is_zero_and_no_lower_layer_is_normalised(make_recipe) -> None:
    on, off = build(make_recipe, ON), build(make_recipe, {"encoder.layers": 3})
    norms = []
    for model in (on, off):
        model.encoder.norm.register_forward_hook(lambda *_: norms.append(1))
    losses = off.loss(FEATURES, LENGTHS, LABELS)
    assert float(losses.inter_ctc) == 0.0
    torch.testing.assert_close(losses.total, 0.3 * losses.ctc + 0.7 * losses.attention)
    on.encode(FEATURES, LENGTHS)
    assert len(norms) == 2, "one forward pass of the loss, one of inference, the last layer alone in both"
    assert on.state_dict().keys() == off.state_dict().keys()


def test_its_metric_is_there_only_when_it_is_on(make_recipe, tmp_path: Path) -> None:
    context = DistributedContext(0, 1, torch.device("cpu"))
    for name, values in (("on", ON), ("off", {"encoder.layers": 3})):
        run = start_or_resume(make_recipe(values | {"data.batch_seconds": 60.0}), tmp_path / name, context)
        train_epoch(run)
        assert ("train/loss_inter_ctc" in run.state.losses) == (name == "on")
        assert run.state.losses.get("train/loss_inter_ctc", 1.0) > 0


@pytest.mark.parametrize(
    ("inter_ctc", "message"),
    [
        ({"layers": [1, 3]}, "loss.inter_ctc.layers names layer 3, but the encoder has 3 layers and the last one has"),
        ({"layers": [2, 1]}, "layers is [2, 1], but must be in ascending order, each layer once"),
        ({"layers": [1], "weight": 1.0}, "'loss.inter_ctc.weight' is 1.0; input should be less than 1"),
    ],
)
def test_layers_and_weight_that_make_no_sense_are_refused(make_recipe, inter_ctc: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make_recipe({"encoder.layers": 3, "loss.inter_ctc": inter_ctc})


def test_the_published_layout_has_no_place_for_it(make_recipe, tmp_path: Path) -> None:
    message = re.escape("loss.inter_ctc.layers is [1, 2], but the published layout has no intermediate CTC losses; set")
    with pytest.raises(UserError, match=message):
        save_pretrained(build(make_recipe, ON), tmp_path)
