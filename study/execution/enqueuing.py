"""Recipes that a person has a study try: as a file, or as values on the base recipe or on that of an earlier trial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from model.errors import UserError
from model.recipe.files import dotted_keys, read_recipe, value_at, with_values
from model.recipe.recipe import Recipe
from model.strict import validate
from study.ledger.ledger import Ledger
from study.ledger.records import TrialRecord

RECIPE, VALUES, FROM = "recipe", "values", "from"  # what a command holds
EPOCHS = "training.epochs"
# Names of quantities as a study file and the tables have them.
_SHORT = {"ctc_weight": "loss.ctc_weight"}
_CLASSIFIERS = "auxiliary."


def describe_recipe(words: Sequence[str], source: int | None = None) -> str:
    """What a person asks for as a command's value: a recipe file, or key=value words; `source` is a trial to start
    from. A UserError where the words are neither."""
    if len(words) == 1 and Path(words[0]).suffix in (".yaml", ".yml"):
        if source is not None:
            raise UserError(f"--from {source} goes with key=value words, not with the recipe file {words[0]}")
        return json.dumps({RECIPE: read_recipe(Path(words[0])).model_dump(mode="json")})
    if not words and source is None:
        raise UserError("nothing is enqueued; give a recipe file (.yaml), key=value words, or --from N")
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise UserError(
                f"'{word}' is neither a recipe file (.yaml) nor key=value, as in optimiser.learning_rate=1e-3"
            )
        values[_spell_out(key)] = _read_value(key, text, source)
    return json.dumps({VALUES: values, FROM: source}, default=str)  # YAML reads dates, which no recipe has


def make_enqueued(text: str, ledger: Ledger) -> Recipe:
    """The recipe that `describe_recipe` describes, as this study trains it. A UserError where it cannot."""
    content, base = json.loads(text), ledger.base_recipe
    if RECIPE in content:
        return _adapt(validate(Recipe, content[RECIPE], "the enqueued recipe"), base)
    values: Mapping[str, Any] = content.get(VALUES) or {}
    if any(key.startswith("data.") and key.split(".")[1] in ("corpus", "fingerprint") for key in values):
        raise UserError("a trial has the study's corpus; leave out data.corpus and data.fingerprint")
    if content.get(FROM) is None:
        return _adapt(with_values(base, values, "enqueue"), base)
    number = int(content[FROM])
    record = ledger.trials.get(number)
    if record is None:
        raise UserError(f"study '{ledger.study.name}' has no trial {number} to start from")
    return _adapt(_continue_from(record, ledger, values), base)


def _continue_from(record: TrialRecord, ledger: Ledger, values: Mapping[str, Any]) -> Recipe:
    """A trial's recipe with other values, which starts from the weights that the trial chose.

    It is a new training: its epochs, its optimiser and its learning rate's schedule start from the beginning, so that
    `training.epochs` is what it trains beyond the trial's own.
    """
    from model.weights.initial import fingerprint_weights  # torch takes seconds to import

    if not record.state.final:
        raise UserError(f"trial {record.number:04d} has not ended, it is {record.state}; wait until it has its weights")
    folder = ledger.trial_folder(record.number).resolve()  # it is read in other folders than this process is in
    start = {"init_from": str(folder), "init_fingerprint": fingerprint_weights(folder), "initialisation": {}}
    recipe = ledger.read_recipe(record)
    if "initialisation" not in values:
        recipe = recipe.model_copy(update={"initialisation": type(recipe.initialisation)()})
    return with_values(recipe, {**start, **values}, "enqueue")


def _adapt(recipe: Recipe, base: Recipe) -> Recipe:
    """The recipe on the study's corpus and tokenizer, which all its trials share; a UserError where it needs others."""
    ours, given = base.data, recipe.data
    if given.fingerprint not in (None, ours.fingerprint) or (given.fingerprint is None and given.corpus != ours.corpus):
        raise UserError(
            f"the recipe was made for the corpus {given.corpus} ({given.fingerprint or 'not prepared'}), but the study "
            f"has {ours.corpus} ({ours.fingerprint}); set data.corpus to that, and data.fingerprint to null"
        )
    for part in ("tokenizer", "custom_model"):
        _refuse_other_part(part, getattr(recipe, part), getattr(base, part))
    data = given.model_copy(update={"corpus": ours.corpus, "fingerprint": ours.fingerprint})
    recipe = recipe.model_copy(update={"data": data, "tokenizer": base.tokenizer, "custom_model": base.custom_model})
    if recipe.init_from is None or recipe.init_fingerprint is not None:
        return recipe
    from model.weights.initial import check_initial_weights, find_initial_weights

    found = find_initial_weights(recipe)
    if found is None:
        return recipe
    check_initial_weights(recipe, found)
    return recipe.model_copy(update={"init_fingerprint": found.fingerprint})


def _refuse_other_part(name: str, given: Any, ours: Any) -> None:
    """Files are compared by their fingerprints where both are known, else by their paths."""
    given, ours = given.model_dump(mode="json"), ours.model_dump(mode="json")
    if None not in (given.get("fingerprint"), ours.get("fingerprint")):
        path = "file" if "file" in given else "path"
        given, ours = given | {path: None}, ours | {path: None}
    else:
        given, ours = given | {"fingerprint": None}, ours | {"fingerprint": None}
    for key, value in ours.items():
        if given.get(key) != value:
            raise UserError(
                f"{name}.{key} is {given.get(key)}, but {value} in this study, whose trials share it; put that value "
                "into the recipe, or start another study"
            )


def _spell_out(key: str) -> str:
    return f"loss.{key}" if key.startswith(_CLASSIFIERS) else _SHORT.get(key, key)


def _read_value(key: str, text: str, source: int | None) -> Any:
    """A value as YAML has it; `training.epochs=+10` are ten epochs beyond those of the trial that is started from."""
    if text.startswith("+"):
        if source is None or key != EPOCHS or not text[1:].isdigit():
            raise UserError(f"'{key}={text}' adds to nothing; only {EPOCHS} takes +N, with --from")
        text = text[1:]
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"'{key}={text}' is not valid YAML; quote the value") from None
    except ValueError:  # what looks like a date and is none
        return text
    if isinstance(value, str):  # YAML 1.1 reads 1e-3 as a text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def describe_differences(recipe: Recipe, base: Recipe) -> str:
    """What an enqueued recipe has other than the study's base recipe, for a line."""
    hidden = ("init_fingerprint", "name")
    keys = [key for key in dotted_keys(recipe) if key not in hidden]
    before = set(dotted_keys(base))
    return ", ".join(
        f"{key} {value_at(recipe, key)}"
        for key in keys
        if key not in before or value_at(recipe, key) != value_at(base, key)
    )
