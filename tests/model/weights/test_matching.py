"""Which tensors a recipe takes of other weights, by their names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.weights.matching import Matching, Tensors, list_tensors, match_tensors

ANYWHERE = {"init_from": "first"}
PATTERNS = ("*", "encoder.*", "ctc.*", "decoder.*", "decoder.layers.[01].*", "decoder.auxiliary.*", "*.bias", "*norm*")
OTHERS: list[dict[str, Any]] = [
    {},
    {"decoder.layers": 2},
    {"encoder.layers": 3, "decoder.feed_forward": 24},
    {"encoder.heads": 4},
    {"tokenizer.vocabulary": 50, "tokenizer.special.pad": 9},
    {"loss.auxiliary": {"placement": [1, 3], "weights": [0.2, 0.2]}},
]


@pytest.fixture
def match(make_recipe: Callable[..., Recipe]) -> Callable[..., Matching]:
    """What a recipe with `here` and `initialisation` takes of weights that one with `there` trained."""

    def match(here: dict[str, Any], there: dict[str, Any], **initialisation: Any) -> Matching:
        ours = make_recipe(ANYWHERE | here | {"initialisation": initialisation})
        return match_tensors(list_tensors(ours), list_tensors(make_recipe(there)), "init_from first")

    return match


@pytest.fixture(scope="module")
def others(make_recipe: Callable[..., Recipe]) -> list[Tensors]:
    return [list_tensors(make_recipe(values)) for values in OTHERS]


def layers(names: Any) -> set[str]:
    return {".".join(name.split(".")[:3]) for name in names if ".layers." in name}


@settings(max_examples=60, deadline=None)
@given(
    here=st.sampled_from(range(len(OTHERS))),
    there=st.sampled_from(range(len(OTHERS))),
    take=st.sets(st.sampled_from(PATTERNS)),
    leave=st.sets(st.sampled_from(PATTERNS[1:])),
    vocabulary=st.sampled_from(["by_id", "by_piece", "leave"]),
)
def test_every_tensor_is_taken_whole_or_starts_fresh_with_a_reason(
    others: list[Tensors], here: int, there: int, take: set[str], leave: set[str], vocabulary: str
) -> None:
    words = {"take": sorted(take), "leave": sorted(leave), "vocabulary": vocabulary, "unfit": "leave"}
    recipe = with_values(others[here].recipe, ANYWHERE | {"initialisation": words})
    ours, theirs = replace(others[here], recipe=recipe), others[there]
    found, refusal = Matching(), ""
    try:
        found = match_tensors(ours, theirs, "init_from first")
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert take, "to take nothing is no error"
        assert "initialisation takes none of its tensors" in refusal
        return
    assert found.taken.keys() | found.fresh.keys() == ours.shapes.keys()
    assert not found.taken.keys() & found.fresh.keys()
    assert all(found.fresh.values())
    assert {*found.taken.values(), *found.unused} == theirs.shapes.keys()
    rows = 1 if vocabulary == "by_piece" else 0
    for name, source in found.taken.items():
        first = rows if name.startswith(("ctc.", "decoder.e", "decoder.f", "decoder.aux")) else 0
        assert ours.shapes[name][first:] == theirs.shapes[source][first:]


def test_no_random_number_is_drawn_and_no_value_is_made(make_recipe) -> None:
    before = torch.get_rng_state()
    list_tensors(make_recipe())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_encoder_alone_can_be_taken_of_a_model_with_another_decoder_and_other_words(match) -> None:
    found = match({"decoder.width": 32, "decoder.layers": 2}, {"tokenizer.vocabulary": 50}, take=["encoder.*"])
    assert {name.split(".")[0] for name in found.taken} == {"encoder"}
    assert {name.split(".")[0] for name in found.fresh} == {"ctc", "decoder"}
    assert set(found.fresh.values()) == {"not in initialisation.take"}
    assert {name.split(".")[0] for name in found.unused} == {"ctc", "decoder"}


def test_what_is_left_need_not_fit(match) -> None:
    with pytest.raises(UserError, match=r"no place for tensor 'decoder\.layers\.2\.attention\.out\.bias'; give it "):
        match({"decoder.layers": 2}, {})
    found = match({"decoder.layers": 2}, {}, leave=["decoder.layers.[23].*"])
    assert found.fresh == {}
    assert layers(found.unused) == {"decoder.layers.2", "decoder.layers.3"}


def test_a_shallower_decoder_takes_the_layers_that_rename_maps(match) -> None:
    words = {"rename": [["decoder.layers.3.*", "decoder.layers.1.*"]], "unfit": "leave"}
    found = match({"decoder.layers": 2}, {}, **words)
    assert found.fresh == {}
    assert {name for name in found.taken if layers([name]) == {"decoder.layers.1"}} == {
        name.replace(".3.", ".1.") for name in found.taken.values() if layers([name]) == {"decoder.layers.3"}
    }
    assert layers(found.unused) == {"decoder.layers.1", "decoder.layers.2"}


def test_a_layer_that_several_pairs_name_goes_to_several_places(match) -> None:
    pairs = [["decoder.layers.1.*", f"decoder.layers.{layer}.*"] for layer in (1, 2, 3)]
    found = match({}, {"decoder.layers": 2}, rename=pairs)
    assert (found.fresh, found.unused) == ({}, [])
    assert found.taken["decoder.layers.3.attention.out.bias"] == "decoder.layers.1.attention.out.bias"


def test_classifiers_are_named_after_their_layers_and_may_be_renamed_and_left(match) -> None:
    here = {"loss.auxiliary": {"placement": [1, 2], "weights": [0.3, 0.2]}}
    there = {"loss.auxiliary": {"placement": [2, 3], "weights": [0.3, 0.2]}}
    found = match(here, there)
    assert found.taken["decoder.auxiliary.layer_2.weight"] == "decoder.auxiliary.layer_2.weight"
    assert found.fresh == {"decoder.auxiliary.layer_1.weight": "these weights have none"}
    assert found.unused == ["decoder.auxiliary.layer_3.weight"]
    found = match(here, there, rename=[["decoder.final.weight", "decoder.auxiliary.layer_1.weight"]], unfit="leave")
    assert found.taken["decoder.auxiliary.layer_1.weight"] == "decoder.final.weight"
    assert match({}, {}, leave=["decoder.auxiliary.*"]).fresh == {}, "a study searches the placement"


@pytest.mark.parametrize(("part", "others"), [("encoder", "decoder"), ("decoder", "encoder")])
def test_attention_with_another_number_of_heads_means_other_weights(match, part: str, others: str) -> None:
    with pytest.raises(UserError, match=rf"was trained with {part}\.heads 2, but the recipe has 4; set it to 2, or"):
        match({f"{part}.heads": 4}, {})
    found = match({f"{part}.heads": 4}, {}, unfit="leave")
    assert all("attention." in name and name.startswith(part) for name in found.fresh)
    assert set(found.fresh.values()) == {f"{part}.heads is 4, there 2"}
    assert match({f"{part}.heads": 4}, {}, take=[f"{others}.*"]).taken, "heads of what is not taken do not matter"


def test_special_tokens_matter_where_rows_are_taken_by_id(match) -> None:
    other = {"tokenizer.special.eos": 9}
    with pytest.raises(UserError, match=r"was trained with tokenizer\.special\.eos 9, but the recipe has 1; set it"):
        match({}, other, take=["ctc.*"])
    for words in ({"take": ["encoder.*"]}, {"vocabulary": "leave"}, {"vocabulary": "by_piece"}):
        assert match({}, other, **words).taken
    rows = {"ctc.1.weight", "ctc.1.bias", "decoder.embedding.weight", "decoder.final.weight"}
    assert match({}, other, unfit="leave").fresh.keys() == match({}, other, vocabulary="leave").fresh.keys() == rows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"take": ["encoder"]},
            "initialisation.take has 'encoder', which matches no tensor; did you mean 'encoder.*'?",
        ),
        (
            {"leave": ["decoder.layer.0.*"]},
            "initialisation.leave has 'decoder.layer.0.*', which matches no tensor; did ",
        ),
        ({"leave": ["decoder.layer.0.*"]}, "did you mean 'decoder.layers.0.*'?"),
        ({"take": ["xyz"]}, "which matches no tensor; known: ctc.*, decoder.*, encoder.*"),
        ({"rename": [["decoder.layers.7.*", "decoder.layers.1.*"]]}, "initialisation.rename has 'decoder.layers.7.*'"),
        ({"rename": [["decoder.layers.1.*", "decoder.layers.7.*"]]}, "initialisation.rename has 'decoder.layers.7.*'"),
        (
            {"rename": [["decoder.layers.0.*", "decoder.layers.2.*"], ["decoder.layers.1.*", "decoder.layers.2.*"]]},
            "gives 'decoder.layers.0.norm_self.weight' and 'decoder.layers.1.norm_self.weight' the same name, "
            "'decoder.layers.2.norm_self.weight'; narrow one of the patterns",
        ),
        (
            {"rename": [["ctc.1.weight", "decoder.final.weight"]], "vocabulary": "by_piece", "take": ["decoder.*"]},
            "tensor 'ctc.1.weight' has no rows for the pieces of 'decoder.final.weight'; leave it out",
        ),
        (
            {"leave": ["*"]},
            "initialisation takes none of its tensors ('encoder.subsampling.convolutions.0.weight': in "
            "initialisation.leave); widen take, or set it to [] to start from nothing",
        ),
    ],
)
def test_words_that_mean_nothing_are_refused_in_one_line(match, words: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        match({}, {}, **words)
    assert str(caught.value).startswith("init_from first: ")
    assert "\n" not in str(caught.value)
