"""Baselines are what the paper calls them, at every depth of decoder."""

from __future__ import annotations

import pytest

from model.errors import UserError
from model.recipe.architecture import AuxiliaryConfig
from model.recipe.files import named_recipe, with_values
from study.config.baselines import baseline, check_baselines

TINY = named_recipe("tiny", "speech")


def test_ed_has_no_auxiliary_classifier_and_leaves_the_rest() -> None:
    base = with_values(TINY, {"loss.auxiliary.placement": [1], "loss.auxiliary.weights": [0.3], "loss.ctc_weight": 0.5})
    recipe = baseline("ed", base)
    assert recipe.loss.auxiliary == AuxiliaryConfig()
    assert recipe.loss.ctc_weight == 0.5


def test_decred_paper_is_the_released_base_models_loss() -> None:
    loss = baseline("decred-paper", named_recipe("base", "speech")).loss
    assert (loss.ctc_weight, loss.auxiliary.placement, loss.auxiliary.weights) == (0.3, (5,), (0.6,))
    assert loss.auxiliary.final_weight == pytest.approx(0.4)


@pytest.mark.parametrize(("layers", "layer"), [(2, 1), (4, 2), (6, 3), (8, 5), (12, 7)])
def test_decred_paper_keeps_its_relative_depth(layers: int, layer: int) -> None:
    base = with_values(TINY, {"decoder.layers": layers})
    assert baseline("decred-paper", base).loss.auxiliary.placement == (layer,)


def test_decred_paper_needs_an_intermediate_layer() -> None:
    base = with_values(TINY, {"decoder.layers": 1})
    with pytest.raises(UserError, match="'decred-paper' needs an intermediate decoder layer, but the decoder has 1"):
        check_baselines(["ed", "decred-paper"], base)


@pytest.mark.parametrize(("layers", "layer"), [(2, 1), (5, 2), (12, 6)])
def test_interctc_regularises_the_middle_encoder_layer_and_no_decoder_layer(layers: int, layer: int) -> None:
    auxiliary = {"placement": [1], "weights": [0.3]}
    base = with_values(TINY, {"encoder.layers": layers, "loss.auxiliary": auxiliary, "loss.ctc_weight": 0.5})
    loss = baseline("interctc", base).loss
    assert loss.auxiliary == AuxiliaryConfig()
    assert (loss.ctc_weight, loss.inter_ctc.layers, loss.inter_ctc.weight) == (0.3, (layer,), 0.5)


def test_interctc_needs_an_intermediate_encoder_layer() -> None:
    words = "baseline 'interctc' needs an intermediate encoder layer, but the encoder has 1; raise encoder.layers to 2"
    with pytest.raises(UserError, match=words):
        check_baselines(["ed", "interctc"], with_values(TINY, {"encoder.layers": 1}))


def test_an_unknown_baseline_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"baseline 'decred-papr' is unknown; did you mean 'decred-paper'\?"):
        baseline("decred-papr", TINY)
