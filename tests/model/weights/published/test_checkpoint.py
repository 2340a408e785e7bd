from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.decoding.beam_search import decode
from model.errors import UserError
from model.network.recogniser import Recogniser
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from model.weights.published.checkpoint import load_pretrained, save_pretrained

VARIANTS = ("reguler_one_aux", "reguler_two_aux", "train_variant")
SMALL = {
    "tokenizer.vocabulary": 20,
    "encoder": {"layers": 1, "width": 16, "heads": 2, "feed_forward": 24, "cgmlp": 24, "channels": 3},
    "encoder.padding": "published",
    "decoder": {"layers": 3, "width": 16, "heads": 4, "feed_forward": 20},
}
SIZES = {
    "no auxiliary classifier, separate blank": {},
    "two classifiers, blank in the middle": {
        "tokenizer.special": {"bos": 1, "eos": 2, "unk": 3, "pad": 0, "blank": 7},
        "loss.auxiliary": {"placement": [1, 2], "weights": [0.1, 0.2]},
    },
    "two widths, blank last, other kernels": {
        "encoder.width": 24,
        "encoder.heads": 6,
        "encoder.layers": 2,
        "encoder.cgmlp_kernel": 5,
        "encoder.merge_kernel": 7,
        "decoder.project_encoder": True,
        "tokenizer.special.pad": 19,
        "tokenizer.special.blank": 19,
    },
    "padded convolutions, summed CTC, no smoothing": {
        "encoder.convolution_padding": 1,
        "loss.ctc_reduction": "sum",
        "loss.ctc_weight": 0.5,
        "loss.label_smoothing": 0.0,
    },
}
Edit = Callable[[dict[str, Any]], None]


def small(values: dict[str, Any] | None = None) -> Recogniser:
    torch.manual_seed(3)
    return Recogniser(with_values(named_recipe("tiny", "."), SMALL | (values or {}))).eval()


def shape_of(recipe: Recipe) -> dict[str, Any]:
    return {part: getattr(recipe, part) for part in ("tokenizer", "encoder", "decoder", "loss")}


@pytest.mark.parametrize("variant", VARIANTS)
def test_loading_and_saving_reproduces_every_file(golden: Path, tmp_path: Path, variant: str) -> None:
    save_pretrained(load_pretrained(golden / variant), tmp_path / "once")
    save_pretrained(load_pretrained(tmp_path / "once"), tmp_path / "twice")
    original = load_file(golden / variant / "model.safetensors")
    for copy in ("once", "twice"):
        again = load_file(tmp_path / copy / "model.safetensors")
        assert again.keys() == original.keys()
        assert all(torch.equal(value, original[name]) for name, value in again.items())
        for name in ("config.json", "generation_config.json"):
            assert (tmp_path / copy / name).read_text() == (golden / variant / name).read_text()


@pytest.mark.parametrize("values", SIZES.values(), ids=SIZES)
def test_models_of_other_shapes_are_the_same_after_saving_and_loading(values: dict[str, Any], tmp_path: Path) -> None:
    model = small(values)
    save_pretrained(model, tmp_path)
    back = load_pretrained(tmp_path)
    assert shape_of(back.recipe) == shape_of(model.recipe)
    features, lengths = torch.randn(2, 60, 80), torch.tensor([60, 41])
    labels = torch.tensor([[5, 6, 8, 1], [9, 1, -100, -100]])
    ours, theirs = (recogniser.loss(features, lengths, labels) for recogniser in (model, back))
    assert torch.equal(ours.total, theirs.total)
    assert torch.equal(ours.per_classifier, theirs.per_classifier)
    assert decode(model, features, lengths, 3, 0.3, 6) == decode(back, features, lengths, 3, 0.3, 6)


def test_a_model_that_was_trained_further_keeps_config_keys_beyond_the_recipe(golden: Path, tmp_path: Path) -> None:
    model = load_pretrained(golden / "reguler_two_aux")
    changed = Recogniser(
        with_values(model.recipe, {"loss.auxiliary": {"placement": [2], "weights": [0.3]}, "encoder.dropout": 0.2})
    )
    changed.origin = model.origin
    save_pretrained(changed, tmp_path)
    before = json.loads((golden / "reguler_two_aux" / "config.json").read_text())
    after = json.loads((tmp_path / "config.json").read_text())
    assert after["decoder"].pop("head_locations") == [2]
    assert after["decoder"].pop("head_weights") == [0.3, 0.7]
    assert {after["encoder"].pop(key) for key in ("hidden_dropout", "attention_dropout", "final_dropout")} == {0.2}
    kept = {key: value for key, value in after["encoder"].items() if not key.endswith("_dropout")}
    assert kept.items() <= before["encoder"].items()
    assert after["decoder"].items() <= before["decoder"].items()


def test_half_precision_files_are_read_as_float32_and_written_so(folder: Path, tmp_path: Path) -> None:
    _edit_tensors(folder, lambda tensors: tensors.update({name: value.half() for name, value in tensors.items()}))
    _edit(folder, lambda config: config.update(torch_dtype="float16"))
    model = load_pretrained(folder)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    save_pretrained(model, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "float32"
    back = load_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(value, back[name]) for name, value in model.state_dict().items())


def test_classifiers_may_be_listed_in_any_order(folder: Path, golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden / "reguler_two_aux", folder, dirs_exist_ok=True)
    straight = load_pretrained(folder)
    tensors, heads = load_file(folder / "model.safetensors"), "decoder.additional_lm_heads.{}.weight"
    first, second = heads.format(0), heads.format(1)
    tensors[first], tensors[second] = tensors[second], tensors[first]
    save_file(tensors, folder / "model.safetensors")
    _edit(folder, lambda c: c["decoder"].update(head_locations=[3, 1], head_weights=[0.3, 0.2, 0.5]))
    crossed = load_pretrained(folder)
    assert crossed.recipe.loss == straight.recipe.loss
    assert all(torch.equal(value, crossed.state_dict()[name]) for name, value in straight.state_dict().items())
    save_pretrained(crossed, tmp_path / "again")
    assert torch.equal(load_file(tmp_path / "again" / "model.safetensors")[first], tensors[first])


def _edit(folder: Path, change: Edit) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def _edit_tensors(folder: Path, change: Edit) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("decoder.lm_head.weight"),
            "model.safetensors: tensor 'decoder.lm_head.weight' is missing; the file must hold every tensor",
        ),
        (
            lambda t: t.pop("encoder.wav2vec2.masked_spec_embed"),
            "tensor 'encoder.wav2vec2.masked_spec_embed' is missing; the file must hold every tensor",
        ),
        (
            lambda t: t.update({"decoder.extra.weight": torch.zeros(2)}),
            "model.safetensors: tensor 'decoder.extra.weight' is unknown; the file must hold no tensor beyond",
        ),
        (
            lambda t: t.update({"encoder.lm_head.bias": torch.zeros(99)}),
            "tensor 'encoder.lm_head.bias' has shape (99,), but config.json implies (100,)",
        ),
        (
            lambda t: t.update({"encoder.lm_head.bias": torch.zeros(100, dtype=torch.int32)}),
            "tensor 'encoder.lm_head.bias' has type torch.int32, but must hold floating-point numbers",
        ),
        (
            lambda t: t.update({"decoder.transformer.wpe.inv_freq": torch.ones(32)}),
            "tensor 'decoder.transformer.wpe.inv_freq' holds other rates than the sinusoids that are implemented",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(folder: Path, change: Edit, message: str) -> None:
    _edit_tensors(folder, change)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_pretrained(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        ("train_variant", "encoder.blank_projection.weight"),
        ("train_variant", "encoder.wav2vec2.feature_extractor.conv.0.0.conv.weight"),
        ("train_variant", "encoder.lm_head.bias"),
        ("reguler_two_aux", "decoder.additional_lm_heads.1.weight"),
        ("reguler_two_aux", "decoder.transformer.wpe.inv_freq"),
        ("reguler_two_aux", "encoder.wav2vec2.encoder.layers.1.self_attn.pos_bias_u"),
    ],
)
def test_a_missing_tensor_is_named(folder: Path, golden: Path, variant: str, name: str) -> None:
    shutil.copytree(golden / variant, folder, dirs_exist_ok=True)
    _edit_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(UserError, match=re.escape(f"tensor '{name}' is missing; the file must")):
        load_pretrained(folder)


def test_a_separate_blank_is_unknown_to_the_released_code(folder: Path) -> None:
    _edit_tensors(folder, lambda tensors: tensors.update({"encoder.blank_projection.bias": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"tensor 'encoder\.blank_projection\.bias' is unknown"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["encoder"].update(position_embeddings_type="rotary"),
            "config.json: encoder.position_embeddings_type is 'rotary', but only 'relative' is implemented",
        ),
        (
            lambda c: c["encoder"].update(csgu_use_linear_after_conv=True),
            "encoder.csgu_use_linear_after_conv is True, but only False is implemented",
        ),
        (lambda c: c["encoder"].update(use_macaron_ff=False), "encoder.use_macaron_ff is False, but only True is"),
        (lambda c: c["decoder"].update(tie_word_embeddings=True), "decoder.tie_word_embeddings is True, but only"),
        (lambda c: c["decoder"].update(activation_function="relu"), "decoder.activation_function is 'relu', but only"),
        (lambda c: c["encoder"].pop("hidden_size"), "config.json: encoder.hidden_size is missing"),
        (lambda c: c["decoder"].update(vocab_size=90), "decoder.vocab_size is 90, but must be 100, as in the encoder"),
        (
            lambda c: c["decoder"].update(head_weights=[1.0]),
            "decoder.head_weights is [1.0] for head_locations [2], but",
        ),
        (lambda c: c["decoder"].update(head_locations=[4]), "names layer 4, but the decoder has 4 layers"),
        (
            lambda c: c["encoder"].update(num_attention_heads=5),
            "encoder.width is 64 with 5 heads, but must be a multiple",
        ),
        (
            lambda c: c["encoder"].update(conv_dim=[64, 32]),
            "encoder's channels are [64, 32], but two equal numbers are",
        ),
        (
            lambda c: c["encoder"].update(pad_token_id=100),
            "special.blank is 100, but must be below tokenizer.vocabulary",
        ),
        (
            lambda c: c["decoder"].update(n_layer=5),
            "tensor 'decoder.transformer.h.4.attn.c_attn.bias' is missing and 19 more",
        ),
        (lambda c: c.pop("decoder"), "has no section 'decoder', but must be a speech encoder-decoder's config"),
    ],
)
def test_a_config_that_is_not_implemented_is_refused_by_its_key(folder: Path, change: Edit, message: str) -> None:
    _edit(folder, change)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_pretrained(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder.cgmlp": 32}, "encoder.feed_forward is 24 and encoder.cgmlp is 32, but the published layout has one"),
        ({"encoder.width": 24}, "decoder.project_encoder is false with widths 24 and 16, but the published layout"),
    ],
)
def test_a_model_that_the_layout_cannot_hold_is_refused(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        save_pretrained(small(values), tmp_path / "out")
    assert not (tmp_path / "out").exists()
