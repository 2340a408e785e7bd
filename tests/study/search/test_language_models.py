"""Language models in a study: the example file, and weights of decoding as searched quantities."""

from __future__ import annotations

from pathlib import Path

from model.recipe.files import with_values
from study.config.search_settings import SearchSettings
from study.config.study_file import make_base_recipe, read_study
from study.search.space import Space

FOLDER = Path(__file__).parents[3] / "search_spaces"
STUDY = read_study(FOLDER / "language_models.yaml")


def test_the_path_of_the_language_model_is_relative_to_the_study_file() -> None:
    base = make_base_recipe(STUDY)
    assert base.decoding.lm == str((FOLDER / "../corpora/mine/lm.safetensors").resolve())
    assert base.decoding_search.lm_weight == (0.1, 0.3, 0.5)
    assert base.decoding.fuses


def test_weights_and_the_estimator_can_be_searched_and_the_place_of_the_file_is_no_difference() -> None:
    base = with_values(make_base_recipe(STUDY), {"decoding.lm_fingerprint": "abc"})
    quantities = {
        "decoding.lm_weight": {"uniform": [0.0, 0.6]},
        "decoding.ilm_weight": {"uniform": [0.0, 0.4]},
        "decoding.ilm_estimator": {"choice": ["skipped", "zeroed"]},
        "decoding_search.lm_weight": {"choice": [[], [0.1, 0.3]]},
        "decoding_search.ilm_weight": {"choice": [[], [0.2]]},
    }
    space = Space(SearchSettings.model_validate({"recipe": quantities}), base)
    values = {
        "decoding.lm_weight": 0.25,
        "decoding.ilm_weight": 0.5 * 0.25,
        "decoding.ilm_estimator": "skipped",
        "decoding_search.lm_weight": [],
        "decoding_search.ilm_weight": [0.2],
        "decoding.lm": "/elsewhere/lm.safetensors",
    }
    recipe = with_values(base, values)
    found = space.decode(space.encode(recipe))
    assert found == with_values(recipe, {"decoding.lm": base.decoding.lm})
    assert found.decoding.hash == recipe.decoding.hash != base.decoding.hash
    assert found.hash == base.hash, "the same training"
