"""What a recipe may say of the weights it starts from; what is wrong in it is found when it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from model.recipe.files import named_recipe, read_recipe, with_values
from model.strict import to_yaml

TINY = named_recipe("tiny", "corpus")
STARTED = with_values(TINY, {"init_from": "runs/first"})
PARTS = {
    "initialisation.take": ["encoder.*", "decoder.*"],
    "initialisation.leave": ["encoder.layers.[1-3].*"],
    "initialisation.rename": [["decoder.layers.5.*", "decoder.layers.3.*"]],
    "initialisation.unfit": "leave",
    "initialisation.vocabulary": "by_piece",
}


def test_without_a_word_of_it_all_is_taken_and_the_hash_is_what_it_was() -> None:
    assert STARTED.initialisation.take == ("*",)
    assert STARTED.initialisation.describe_changes() is None
    content = STARTED.model_dump(mode="json")
    del content["initialisation"]
    assert type(STARTED).model_validate(content).hash == STARTED.hash


@pytest.mark.parametrize("key", PARTS)
def test_each_of_its_keys_trains_another_model(key: str) -> None:
    assert with_values(STARTED, {key: PARTS[key]}).hash != STARTED.hash


def test_a_recipe_with_all_of_its_keys_is_read_back_from_yaml_as_it_was(tmp_path: Path) -> None:
    recipe = with_values(STARTED, PARTS | {"init_from": str(tmp_path / "first"), "data.corpus": str(tmp_path)})
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"take": ["encoder *"]}, "initialisation.take.0: 'encoder *' is no pattern of tensor names; write names with"),
        ({"take": ["encoder.*", ""]}, "initialisation.take.1: '' is no pattern of tensor names"),
        ({"leave": ["encoder.layers.[0-3.*"]}, "'encoder.layers.[0-3.*' is no pattern of tensor names"),
        ({"leave": ["ctc.*", "ctc.*"]}, "leave is [ctc.*, ctc.*], but must name each pattern once"),
        ({"rename": [["a.*", "b.1"]]}, "rename is [a.*, b.1], but both must have as many *: what stands for those"),
        ({"rename": [["a.[0-3]", "b.1"]]}, "'a.[0-3]' cannot be renamed by; write a name in which * alone stands for"),
        ({"rename": [["a", "b"], ["a", "b"]]}, "rename is [[a, b], [a, b]], but must name each pattern once"),
        ({"unfit": "skip"}, "'initialisation.unfit' is 'skip'; input should be 'refuse' or 'leave'"),
        ({"takes": ["*"]}, "unknown key 'initialisation.takes'; did you mean 'take'?"),
    ],
)
def test_a_wrong_part_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        with_values(STARTED, {"initialisation": values})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("take", "initialisation.take is [encoder.*, decoder.*], but init_from names no weights; set init_from, or "),
        ("rename", "initialisation.rename is [[decoder.layers.5.*, decoder.layers.3.*]], but init_from names no"),
        ("vocabulary", "initialisation.vocabulary is by_piece, but init_from names no weights"),
    ],
)
def test_without_initial_weights_there_is_nothing_to_say_of_them(key: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        with_values(TINY, {f"initialisation.{key}": PARTS[f"initialisation.{key}"]})
