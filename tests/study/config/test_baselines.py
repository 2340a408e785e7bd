"""Baselines are as in the paper, its published files and InterCTC's paper, at every depth."""

from __future__ import annotations

from typing import get_args

import pytest

from model.errors import UserError
from model.recipe.architecture import AuxiliaryConfig
from model.recipe.files import named_recipe, with_values
from study.config.baselines import BASELINES, check_baselines, make_baseline
from study.config.study_file import Baseline

TINY = named_recipe("tiny", "speech")


def test_the_study_file_allows_every_baseline_and_no_other_name() -> None:
    assert set(get_args(Baseline)) == BASELINES.keys()


def test_ed_has_no_auxiliary_classifier_and_changes_nothing_else() -> None:
    base = with_values(TINY, {"loss.auxiliary.placement": [1], "loss.auxiliary.weights": [0.3], "loss.ctc_weight": 0.5})
    recipe = make_baseline("ed", base)
    assert recipe.loss.auxiliary == AuxiliaryConfig()
    assert recipe.loss.ctc_weight == 0.5


@pytest.mark.parametrize(
    ("name", "recipe", "layer", "weight"),
    [
        ("decred-paper", "base", 6, 0.4),
        ("decred-paper", "small", 4, 0.4),
        ("decred-published", "base", 5, 0.6),
        ("decred-recipe", "base", 6, 0.3),
        ("decred-recipe", "small", 4, 0.3),
    ],
)
def test_decred_baselines_have_the_loss_of_the_paper_the_checkpoint_and_the_recipes(
    name: str, recipe: str, layer: int, weight: float
) -> None:
    loss = make_baseline(name, with_values(named_recipe(recipe, "speech"), {"loss.ctc_weight": 0.5})).loss
    assert (loss.ctc_weight, loss.auxiliary.placement, loss.auxiliary.weights) == (0.3, (layer,), (weight,))
    assert loss.auxiliary.final_weight == pytest.approx(1 - weight)
    assert loss.inter_ctc.layers == ()


@pytest.mark.parametrize(
    ("name", "layers", "layer"),
    [
        *(("decred-paper", layers, layers - 2) for layers in (3, 4, 5, 12)),
        *(("decred-recipe", layers, layers - 2) for layers in (3, 4, 5, 12)),
        *(("decred-published", layers, layer) for layers, layer in ((2, 1), (4, 2), (6, 3), (12, 7))),
    ],
)
def test_other_depths_have_the_classifier_on_the_corresponding_layer(name: str, layers: int, layer: int) -> None:
    assert make_baseline(name, with_values(TINY, {"decoder.layers": layers})).loss.auxiliary.placement == (layer,)


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("decred-paper", 2, "layer D - 2, but the decoder has 2 layers; raise decoder.layers to 3 or more, or"),
        ("decred-recipe", 1, "layer D - 2, but the decoder has 1 layer; raise decoder.layers to 3 or more, or"),
        ("decred-published", 1, r"layer floor\(5 D / 8\), but the decoder has 1 layer; raise decoder.layers to 2 or"),
    ],
)
def test_a_decoder_that_is_too_shallow_is_refused_in_one_line(name: str, layers: int, message: str) -> None:
    base = with_values(TINY, {"decoder.layers": layers})
    with pytest.raises(
        UserError, match=f"^baseline '{name}' has a loss on decoder {message}.* leave the baseline out$"
    ):
        check_baselines(["ed", name], base)


@pytest.mark.parametrize(("layers", "layer"), [(2, 1), (5, 2), (12, 6)])
def test_interctc_regularises_the_middle_encoder_layer_and_no_decoder_layer(layers: int, layer: int) -> None:
    auxiliary = {"placement": [1], "weights": [0.3]}
    base = with_values(TINY, {"encoder.layers": layers, "loss.auxiliary": auxiliary, "loss.ctc_weight": 0.5})
    loss = make_baseline("interctc", base).loss
    assert loss.auxiliary == AuxiliaryConfig()
    assert (loss.ctc_weight, loss.inter_ctc.layers, loss.inter_ctc.weight) == (0.3, (layer,), 0.3)


def test_interctc_needs_an_intermediate_encoder_layer() -> None:
    message = (
        r"'interctc' has a loss on encoder layer floor\(L / 2\), but the encoder has 1 layer; raise encoder.layers to 2"
    )
    with pytest.raises(UserError, match=message):
        check_baselines(["ed", "interctc"], with_values(TINY, {"encoder.layers": 1}))


def test_an_unknown_baseline_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"baseline 'decred-papr' is unknown; did you mean 'decred-paper'\?"):
        make_baseline("decred-papr", TINY)
