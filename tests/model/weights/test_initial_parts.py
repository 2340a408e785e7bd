"""Trainings that start from a part of other weights: what is taken, what starts fresh, and the record of it."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import ALONE

from model.data.recipe_inputs import load_corpus, load_tokenizer
from model.data.tokenizer import TOKENIZER_FILE, Tokenizer
from model.errors import UserError
from model.network.recogniser import Recogniser
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.runtime.distributed import DistributedContext, current_context
from model.training.loop import start_or_resume, train
from model.training.prepare import prepare
from model.weights.import_export import export_published
from model.weights.initial import load_initial_weights, read_weights
from model.weights.published.checkpoint import load_pretrained, save_pretrained
from model.weights.taken_weights import INITIALISATION_FILE

ONE_EPOCH = {"training.epochs": 1, "training.seed": 5}
OTHER_WORDS = {"tokenizer.vocabulary": 50}


@pytest.fixture(scope="module")
def first(make_recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of four decoder layers, with a classifier on the second."""
    folder = tmp_path_factory.mktemp("initial") / "first"
    recipe = make_recipe({"training.epochs": 1, "loss.auxiliary": {"placement": [2], "weights": [0.4]}})
    train(recipe, folder, lambda _: None)
    return folder


def start(recipe: Recipe, folder: Path, context: DistributedContext = ALONE) -> dict[str, torch.Tensor]:
    """The weights that a training of the recipe starts with."""
    return {name: value.clone() for name, value in start_or_resume(recipe, folder, context).model.state_dict().items()}


def read_record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INITIALISATION_FILE).read_text())


def test_an_encoder_alone_is_taken_and_all_else_is_as_without_initial_weights(
    make_recipe, first: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shape = OTHER_WORDS | {"decoder.layers": 2, "decoder.width": 24, "decoder.heads": 2} | ONE_EPOCH
    fresh = start(prepare(make_recipe(shape)), tmp_path / "fresh")
    taken = prepare(make_recipe(shape | {"init_from": str(first), "initialisation.take": ["encoder.*"]}))
    with caplog.at_level(logging.WARNING):
        state = start(taken, tmp_path / "taken")
    source = read_weights(first).state
    for name, value in state.items():
        assert torch.equal(value, (source if name.startswith("encoder.") else fresh)[name]), name
    record = read_record(tmp_path / "taken")
    encoder = sum(value.numel() for name, value in state.items() if name.startswith("encoder."))
    assert record["parameters"]["taken"] == encoder
    assert record["parameters"]["fresh"] == sum(value.numel() for value in state.values()) - encoder
    assert {one["name"] for one in record["fresh"]} == {name for name in state if not name.startswith("encoder.")}
    assert record["fresh"][0] == {"name": "ctc.1.weight", "shape": [51, 16], "reason": "not in initialisation.take"}
    assert record["fingerprint"] == taken.init_fingerprint
    (line,) = [message for message in caplog.messages if message.startswith("init_from")]
    tensors = f"{len(record['taken'])} tensors ({encoder} parameters)"
    assert line.startswith(f"init_from {first}: took {tensors}; {len(record['fresh'])} tensors (")
    assert line.endswith(
        "start fresh: ctc.1.* (not in initialisation.take), decoder.* (not in initialisation.take); "
        "not used: ctc.1.*, decoder.*"
    )


def test_rows_are_taken_by_piece_whatever_their_ids(make_recipe, first: Path, tmp_path: Path) -> None:
    words = OTHER_WORDS | {"tokenizer.kind": "bpe", "init_from": str(first), "initialisation.vocabulary": "by_piece"}
    auxiliary = {"loss.auxiliary": {"placement": [2], "weights": [0.4]}}
    recipe = prepare(make_recipe(words | auxiliary))
    state, source = start(recipe, tmp_path / "run"), read_weights(first).state
    here = load_tokenizer(recipe, load_corpus(recipe)).pieces
    there = Tokenizer(first / TOKENIZER_FILE).pieces
    shared = [piece for piece in here if piece in there]
    assert 10 < len(shared) < len(there) < len(here)
    assert any(here.index(piece) != there.index(piece) for piece in shared)
    names = ["decoder.embedding.weight", "decoder.final.weight", "decoder.auxiliary.0.weight"]
    for name in [*names, "ctc.1.weight", "ctc.1.bias"]:
        for piece in shared:
            assert torch.equal(state[name][here.index(piece)], source[name][there.index(piece)]), (name, piece)
    assert torch.equal(state["ctc.1.weight"][-1], source["ctc.1.weight"][-1]), "the blank"
    fresh = start(with_values(recipe, {"initialisation.take": []}), tmp_path / "fresh")
    new = [row for row, piece in enumerate(here) if piece not in there]
    for name in names:
        assert torch.equal(state[name][new], fresh[name][new]), name
    record = read_record(tmp_path / "run")
    rows = {one["name"]: one["rows"] for one in record["taken"] if "rows" in one}
    assert rows["decoder.final.weight"] == rows["decoder.auxiliary.layer_2.weight"] == len(shared)
    assert rows["ctc.1.weight"] == rows["ctc.1.bias"] == len(shared) + 1
    assert sum(record["parameters"][part] for part in ("taken", "fresh")) == sum(v.numel() for v in state.values())


def test_a_model_of_the_same_words_computes_what_its_source_does_when_rows_are_taken_by_piece(
    make_recipe, first: Path, tmp_path: Path
) -> None:
    auxiliary = {"loss.auxiliary": {"placement": [2], "weights": [0.4]}}
    words = {"init_from": str(first), "initialisation.vocabulary": "by_piece"}
    state = start(prepare(make_recipe(auxiliary | words)), tmp_path / "run")
    assert all(torch.equal(value, state[name]) for name, value in read_weights(first).state.items())
    assert read_record(tmp_path / "run")["parameters"]["fresh"] == 0


def test_a_shallower_decoder_starts_with_the_layers_that_rename_maps_and_trains_on(
    make_recipe, first: Path, tmp_path: Path
) -> None:
    words = {"rename": [["decoder.layers.3.*", "decoder.layers.1.*"]], "unfit": "leave"}
    recipe = prepare(make_recipe(ONE_EPOCH | {"decoder.layers": 2, "init_from": str(first), "initialisation": words}))
    state, source = start(recipe, tmp_path / "run"), read_weights(first).state
    last = {name: value for name, value in state.items() if name.startswith("decoder.layers.1.")}
    assert len(last) > 10
    assert all(torch.equal(value, source[name.replace("layers.1", "layers.3")]) for name, value in last.items())
    record = read_record(tmp_path / "run")
    assert {one["source"] for one in record["taken"] if "source" in one} == {
        name.replace("layers.1", "layers.3") for name in last
    }
    reports: list[dict[str, float]] = []
    train(recipe, tmp_path / "run", reports.append)
    assert reports[-1]["finished"] == 1.0
    (tmp_path / "run" / INITIALISATION_FILE).unlink()
    train(recipe, tmp_path / "run", reports.append)
    assert not (tmp_path / "run" / INITIALISATION_FILE).exists(), "a run that goes on takes nothing again"


def test_to_take_nothing_is_to_start_from_nothing(make_recipe, first: Path, tmp_path: Path) -> None:
    recipe = make_recipe(ONE_EPOCH)
    fresh = start(recipe, tmp_path / "fresh")
    nothing = prepare(with_values(recipe, {"init_from": str(first), "initialisation.take": []}))
    assert all(torch.equal(value, fresh[name]) for name, value in start(nothing, tmp_path / "nothing").items())
    assert read_record(tmp_path / "nothing")["taken"] == []


def test_ids_that_stand_for_other_pieces_are_taken_as_before_and_reported(
    make_recipe, first: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = prepare(make_recipe({"tokenizer.kind": "bpe", "init_from": str(first)}))
    with caplog.at_level(logging.WARNING):
        state = start(recipe, tmp_path / "run")
    source = read_weights(first).state
    assert all(torch.equal(value, source[name]) for name, value in state.items())
    same = read_record(tmp_path / "run")["same_token_ids"]
    assert 4 <= same < 40
    assert f"only {same} of 40 token ids stand for the same piece there, but rows were taken by id" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"decoder.layers": 3},
            "has no place for tensor 'decoder.layers.3.attention.out.bias'; give it the same layers",
        ),
        ({"initialisation.leave": ["decoder.laers.*"]}, "matches no tensor; did you mean 'decoder.layers.*'?"),
        ({"init_fingerprint": "abc"}, "but the recipe was made for abc; give the original weights, or set init_finger"),
    ],
)
def test_what_cannot_start_is_refused_before_anything_is_trained(
    make_recipe, first: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        prepare(make_recipe({"init_from": str(first)} | values))
    assert str(caught.value).startswith(f"init_from {first}: ")


def test_rows_cannot_be_taken_by_piece_where_no_tokenizer_tells_the_pieces(make_recipe, first, tmp_path) -> None:
    other = shutil.copytree(first, tmp_path / "other")
    (other / TOKENIZER_FILE).unlink()
    recipe = make_recipe({"init_from": str(other), "initialisation.vocabulary": "by_piece"})
    message = rf"init_from {other}: has no tokenizer\.model, so that rows cannot be taken by piece; put the tokenizer"
    with pytest.raises(UserError, match=message):
        prepare(recipe)
    prepare(with_values(recipe, {"initialisation.take": ["encoder.*"]}))
    prepare(with_values(recipe, {"initialisation.vocabulary": "leave"}))


def test_weights_that_are_gone_are_missed_by_a_new_run_alone(make_recipe, first: Path, tmp_path: Path) -> None:
    source = shutil.copytree(first, tmp_path / "source")
    recipe = prepare(make_recipe(ONE_EPOCH | {"init_from": str(source)}))
    train(recipe, tmp_path / "run", lambda _: None)
    shutil.rmtree(source)
    again = prepare(recipe)
    assert again.hash == recipe.hash
    train(again, tmp_path / "run", lambda _: None)
    with pytest.raises(UserError, match="holds neither a published checkpoint"):
        train(again, tmp_path / "new", lambda _: None)


def _start_on_rank(rank: int, recipe: Recipe, folder: Path) -> dict[str, list[float]]:
    state = start(recipe, folder, current_context())
    return {name: value.double().flatten().tolist() for name, value in state.items()}


def test_all_ranks_start_with_the_same_weights(make_recipe, first: Path, tmp_path: Path, worker_pair) -> None:
    words = OTHER_WORDS | {"init_from": str(first), "initialisation.vocabulary": "by_piece"}
    recipe = prepare(make_recipe(words))
    one, other = worker_pair.run(_start_on_rank, recipe, tmp_path / "pair")
    assert one == other
    assert len(read_record(tmp_path / "pair")["taken"]) == len(one)


def test_a_part_of_a_published_checkpoint_is_taken_and_the_model_is_exported_as_one_of_its_own(
    make_recipe, tmp_path: Path
) -> None:
    layout = {"encoder.padding": "published", "tokenizer.special.blank": 3}
    torch.manual_seed(7)
    save_pretrained(Recogniser(make_recipe(layout)), tmp_path / "published")
    words = {"take": ["encoder.*"], "leave": ["encoder.norm.*"]}
    values = layout | OTHER_WORDS | ONE_EPOCH | {"decoder.layers": 2, "init_from": str(tmp_path / "published")}
    recipe = prepare(make_recipe(values | {"initialisation": words}))
    model = Recogniser(recipe)
    with torch.no_grad():
        model.encoder.norm.weight.fill_(3.0)
    load_initial_weights(model)
    source = load_pretrained(tmp_path / "published").state_dict()
    assert torch.equal(model.encoder.layers[0].merge.weight, source["encoder.layers.0.merge.weight"])
    assert model.encoder.norm.weight.eq(3.0).all()
    train(recipe, tmp_path / "run", lambda _: None)
    export_published(tmp_path / "run", tmp_path / "out")
    exported = load_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(value, exported[name]) for name, value in read_weights(tmp_path / "run").state.items())
