"""The recipe's own network as a part of it: what is refused, what counts in the hash, and that it is searched."""

from __future__ import annotations

from typing import Any

import pytest

from model.errors import UserError
from model.recipe.files import dotted_keys, named_recipe, value_at, with_values
from model.recipe.recipe import Recipe

TINY = named_recipe("tiny", "corpus")
NETWORK = {"factory": "networks.gru:make", "settings": {"width": 32, "cell": {"kind": "gru"}}}


def recipe_of(**values: Any) -> Recipe:
    return with_values(TINY, {"custom_model": NETWORK} | values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"custom_model.settings": {"width": 1}},
            "settings is given, but factory is null; name the function, or leave",
        ),
        ({"custom_model.path": "here"}, "path is given, but factory is null"),
        ({"custom_model.factory": "networks"}, r"'custom_model\.factory' is 'networks'; string should match pattern"),
        ({"custom_model": NETWORK | {"settings": {"2x": 1}}}, "settings has '2x', but a setting is a keyword argument"),
        ({"custom_model": NETWORK, "training.freeze": ["encoder"]}, r"training\.freeze is \('encoder',\), which knows"),
        (
            {"custom_model": NETWORK, "training.compile": True},
            r"training\.compile is True, which knows the layers of the",
        ),
        ({"custom_model": NETWORK, "encoder.layer_drop": 0.1}, r"encoder\.layer_drop is 0\.1, which knows the layers"),
        ({"custom_model": NETWORK, "loss.inter_ctc.layers": [1]}, r"loss\.inter_ctc\.layers is \(1,\), which knows"),
        (
            {"custom_model": NETWORK, "decoding.ilm_estimator": "zeroed"},
            r"decoding\.ilm_estimator is zeroed, which knows",
        ),
        (
            {"custom_model": NETWORK, "validation.ilm_estimators": ["zeroed"]},
            r"validation\.ilm_estimators is \('zeroed',\), which knows",
        ),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_values(TINY, values)


def test_its_settings_are_keys_of_the_recipe_at_every_depth() -> None:
    recipe = recipe_of(**{"custom_model.settings.cell.kind": "lstm"})
    assert {"custom_model.settings.width", "custom_model.settings.cell.kind"} <= set(dotted_keys(recipe))
    assert value_at(recipe, "custom_model.settings") == {"width": 32, "cell": {"kind": "lstm"}}
    with pytest.raises(
        UserError, match=r"unknown key 'custom_model\.settings\.widht'; did you mean 'custom_model\.settings"
    ):
        recipe_of(**{"custom_model.settings.widht": 1})


def test_its_function_settings_and_content_count_in_the_hash_and_its_path_only_until_the_content_is_known() -> None:
    plain, prepared = recipe_of(), recipe_of(**{"custom_model.fingerprint": "0123"})
    others = [TINY, plain, prepared, recipe_of(**{"custom_model.settings.width": 16})]
    others += [
        recipe_of(**{"custom_model.fingerprint": "4567"}),
        recipe_of(**{"custom_model.factory": "networks:make"}),
    ]
    assert len({recipe.hash for recipe in others}) == len(others)
    assert recipe_of(**{"custom_model.path": "here"}).hash != plain.hash
    assert with_values(prepared, {"custom_model.path": "here"}).hash == prepared.hash
