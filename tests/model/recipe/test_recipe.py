from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from model.network.making import count_parameters
from model.recipe.architecture import AuxiliaryConfig
from model.recipe.files import named_recipe, read_recipe, value_at, with_values
from model.recipe.recipe import Recipe
from model.strict import to_yaml, validate

CORPUS = {"data": {"corpus": "somewhere"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"encodr": {}}, "r.yaml: unknown key 'encodr'; did you mean 'encoder'?"),
        ({"loss": {"ctc_wieght": 0.3}}, "r.yaml: unknown key 'loss.ctc_wieght'; did you mean 'ctc_weight'?"),
        ({"loss": {"ctc_weight": 2}}, "r.yaml: 'loss.ctc_weight' is 2; input should be less than or equal to 1"),
        (
            {"loss": {"auxiliary": {"placement": [6], "weights": [0.5]}}},
            "names layer 6, but the decoder has 6 layers and the last one carries the final classifier; "
            "choose from 1 to 5",
        ),
        (
            {"loss": {"auxiliary": {"placement": [2, 3], "weights": [0.5, 0.5]}}},
            "weights sum to 1, which leaves the final classifier nothing; keep the sum below 1",
        ),
        (
            {"loss": {"auxiliary": {"placement": [3, 3], "weights": [0.2, 0.2]}}},
            "placement is [3, 3], but must be in ascending order, each layer once",
        ),
        ({"encoder": {"width": 100, "heads": 3}}, "encoder.width is 100 with 3 heads, but must be a multiple of 6"),
        ({"encoder": {"merge_kernel": 30}}, "encoder.merge_kernel is 30, but must be odd"),
        (
            {"encoder": {"convolution_padding": 1}},
            "encoder.convolution_padding is 1, which lets padding in; set encoder.padding to published",
        ),
        (
            {"tokenizer": {"vocabulary": 40, "special": {"blank": 40}}},
            "tokenizer.special.blank is 40, but must be below tokenizer.vocabulary, 40",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line_that_names_what_to_change(content: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        validate(Recipe, CORPUS | content, "r.yaml")
    assert "\n" not in str(caught.value)


def test_an_unknown_named_recipe_lists_the_nearest() -> None:
    with pytest.raises(UserError, match="recipe 'smal' is unknown; did you mean 'small'"):
        named_recipe("smal", "x")


@pytest.mark.parametrize(("name", "millions"), [("tiny", 1.5), ("small", 38.5), ("base", 171.9)])
def test_named_recipes_have_the_published_sizes(name: str, millions: float) -> None:
    assert round(count_parameters(named_recipe(name, "x")) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("name", "digest"), [("tiny", "9174f9affc9495aa"), ("small", "ace09895b9d25173"), ("base", "eb72d41f52050acc")]
)
def test_the_hashes_of_named_recipes_stay_what_they_are_in_every_ledger(name: str, digest: str) -> None:
    assert named_recipe(name, "anywhere").hash == digest


def test_the_hash_identifies_content_but_neither_name_nor_corpus_folder() -> None:
    recipe = named_recipe("tiny", "here")
    assert with_values(recipe, {"data.corpus": "there", "name": "other"}).hash == recipe.hash
    for key in ("data.seed", "training.seed", "training.epochs", "encoder.layers", "training.average"):
        assert with_values(recipe, {key: value_at(recipe, key) * 2 + 1}).hash != recipe.hash, key
    assert with_values(recipe, {"optimiser.warmup_steps": 7}).hash != recipe.hash


@pytest.mark.parametrize(
    ("values", "trains_another_model"),
    [
        ({"decoding.beam": 7, "decoding.ctc_weight": 0.9, "decoding.mixing": [1.0]}, False),
        ({"decoding.tokens_per_second": 3.0, "test_decoding": {"beam": 20}}, False),
        ({"optimiser.accumulate": 4, "training.compile": True, "validation.batch_seconds": 7.0}, False),
        ({"data.longest_scored_seconds": 90.0}, False),
        ({"validation.beam": 7}, True),
        ({"validation.ctc_weight": 0.9}, True),
        ({"validation.tokens_per_second": "none"}, True),
        ({"training.choose": "last"}, True),
        ({"training.data_share": 0.5}, True),
        ({"optimiser.warmup": 0.5}, True),
    ],
)
def test_what_changes_no_weight_changes_no_hash(values: dict, trains_another_model: bool) -> None:
    recipe = named_recipe("tiny", "x")
    assert (with_values(recipe, values).hash != recipe.hash) == trains_another_model


def test_a_decoding_has_a_hash_of_its_own_in_which_batches_do_not_count() -> None:
    recipe = named_recipe("tiny", "x")

    def hash_with(**values: object) -> str:
        return with_values(recipe, {f"decoding.{key}": value for key, value in values.items()}).decoding.hash

    assert hash_with(batch_seconds=7.0) == recipe.decoding.hash
    others = [hash_with(beam=7), hash_with(ctc_weight=0.9), hash_with(tokens_per_second="none"), hash_with(mixing=[1])]
    assert len({recipe.decoding.hash, *others}) == 5


OLD_DECODING = {"beam": 4, "ctc_weight": 0.2, "length_penalty": 2.0, "batch_seconds": 50.0, "mixing": "none"}


def test_a_recipe_of_an_older_version_validates_with_its_decoding_and_bounds_no_hypotheses() -> None:
    recipe = validate(Recipe, CORPUS | {"decoding": OLD_DECODING}, "r.yaml")
    search = {key: value for key, value in OLD_DECODING.items() if key != "mixing"} | {"tokens_per_second": "none"}
    assert recipe.validation.content == {key: value for key, value in search.items() if key != "batch_seconds"}
    written = search | {"mixing": "none"}
    assert {key: value for key, value in recipe.decoding.model_dump().items() if key in written} == written
    own = validate(Recipe, CORPUS | {"decoding": {"beam": 4}}, "r.yaml")
    assert (own.validation.beam, own.decoding.tokens_per_second) == (1, "learnt"), "a recipe of this version"
    spelt_out = CORPUS | {"decoding": OLD_DECODING, "validation": {"beam": 2}}
    assert validate(Recipe, spelt_out, "r.yaml").validation.beam == 2


def test_the_hash_identifies_initial_weights_by_their_content_once_that_is_known() -> None:
    recipe = named_recipe("tiny", "x")
    here, there = (with_values(recipe, {"init_from": place}) for place in ("here", "there"))
    assert len({recipe.hash, here.hash, there.hash}) == 3
    here, there = (with_values(recipe_there, {"init_fingerprint": "abc"}) for recipe_there in (here, there))
    assert here.hash == there.hash != recipe.hash


def test_giving_values_leaves_the_callers_values_alone() -> None:
    values = {"decoder": {"layers": 3}, "decoder.heads": 2}
    assert with_values(named_recipe("tiny", "x"), values).decoder.heads == 2
    assert values == {"decoder": {"layers": 3}, "decoder.heads": 2}


def test_a_recipe_read_back_from_yaml_is_the_same(tmp_path) -> None:
    recipe = with_values(named_recipe("tiny", str(tmp_path)), {"loss.auxiliary": {"placement": [1], "weights": [0.4]}})
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6), st.floats(0.05, 0.95))
def test_all_classifier_weights_sum_to_one(parts: list[float], final: float) -> None:
    weights = tuple((1 - final) * part / sum(parts) for part in parts)
    auxiliary = AuxiliaryConfig(placement=tuple(range(1, len(parts) + 1)), weights=weights)
    assert sum(auxiliary.weights) + auxiliary.final_weight == pytest.approx(1)
    assert auxiliary.final_weight == pytest.approx(final)
