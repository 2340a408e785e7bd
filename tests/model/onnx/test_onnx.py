"""The graphs compute what torch does, for batches of any shape, and decode real audio to the same text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from model.corpora.audio import read_audio
from model.corpora.corpus import Corpus
from model.data.frontend import extract_features
from model.data.recipe_inputs import load_corpus, load_tokenizer
from model.data.tokenizer import Tokenizer
from model.decoding.beam_search import decode
from model.decoding.ctc_greedy import decode_ctc_greedy
from model.errors import UserError
from model.network import attention, subsampling
from model.network.kernels.depthwise import DepthwiseConvolution
from model.network.recogniser import Recogniser
from model.onnx import export as onnx_export
from model.onnx.export import OnnxCheck, export_onnx
from model.onnx.graphs import _shift, make_encoder_inputs
from model.onnx.recogniser import OnnxRecogniser
from model.recipe.recipe import Recipe


@dataclass(frozen=True)
class Exported:
    folder: Path
    model: Recogniser
    tokenizer: Tokenizer
    check: OnnxCheck


@pytest.fixture(scope="module")
def exported(make_recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model whose weights are large enough to say different things of different audio, without a training."""
    recipe = make_recipe({"decoder.heads": 4, "loss.auxiliary.placement": [2], "loss.auxiliary.weights": [0.4]})
    torch.manual_seed(3)
    model = Recogniser(recipe).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "norm" not in name:
                parameter.mul_(8.0)
    tokenizer = load_tokenizer(recipe, load_corpus(recipe))
    folder = tmp_path_factory.mktemp("onnx") / "graphs"
    return Exported(folder, model, tokenizer, export_onnx(model, tokenizer.content, "probe", folder))


@pytest.fixture(scope="module")
def features(corpus: Corpus) -> list[torch.Tensor]:
    """Those of some recordings of different lengths."""
    paths = [Path(entry.audio.file) for entry in corpus.entries("dev")]
    return [extract_features(torch.from_numpy(read_audio(path)).float()) for path in paths]


def test_the_graphs_differ_from_torch_by_rounding(exported: Exported) -> None:
    assert 0 < exported.check.encoder_difference < 1e-3
    assert 0 < exported.check.decoder_difference < 1e-3
    assert min(*exported.check.encoder_ms, *exported.check.decoder_ms) > 0
    assert str(exported.check) in (exported.folder / "README.md").read_text()


def test_recordings_get_the_text_that_torch_gives_them(exported: Exported, features: list[torch.Tensor]) -> None:
    model, tokenizer = exported.model, exported.tokenizer
    recogniser = OnnxRecogniser(exported.folder, threads=1)
    padded, lengths = pad_sequence(features, batch_first=True), torch.tensor([len(frames) for frames in features])
    encoded = recogniser.encode(padded.numpy(), lengths.numpy())
    with torch.inference_mode():
        ours = model.encode(padded, lengths)
    assert encoded["frames"].tolist() == ours.lengths.tolist()
    by_ctc = [tokenizer.decode(ids) for ids in decode_ctc_greedy(model, ours)]
    by_attention = [tokenizer.decode(nbest[0].tokens) for nbest in decode(model, padded, lengths)]
    assert len(set(by_ctc)) > 1, "texts that depend on the audio"
    assert any(by_attention)
    assert recogniser.decode_ctc(encoded) == by_ctc
    assert recogniser.decode_attention(encoded) == by_attention


def test_an_utterance_alone_is_encoded_as_in_a_batch(exported: Exported, features: list[torch.Tensor]) -> None:
    recogniser = OnnxRecogniser(exported.folder, threads=1)
    lengths = np.array([len(frames) for frames in features])
    batch = recogniser.encode(pad_sequence(features, batch_first=True).numpy(), lengths)
    alone = recogniser.encode(features[1][None].numpy(), lengths[1:2])
    valid = alone["frames"][0]
    assert np.allclose(batch["ctc_logits"][1, :valid], alone["ctc_logits"][0, :valid], atol=1e-3)


def test_config_json_says_what_the_graphs_take(exported: Exported) -> None:
    config = json.loads((exported.folder / "config.json").read_text())
    recipe = exported.model.recipe
    assert (config["layers"], config["heads"], config["head_width"]) == (4, 4, 4)
    assert config["blank"] == exported.model.blank
    assert config["special"]["eos"] == recipe.tokenizer.special.eos
    assert config["recipe_hash"] == recipe.hash


def test_the_shift_by_reshaping_is_that_by_strides() -> None:
    for frames in (1, 2, 9):
        scores = torch.randn(2, 3, frames, 2 * frames - 1)
        assert torch.equal(_shift(scores), attention._relative_shift(scores))


def test_the_network_has_its_own_operations_again_after_an_export(exported: Exported) -> None:
    assert subsampling.convolve_patches.__module__ == "model.network.kernels.patch_convolutions"
    assert attention._relative_shift.__module__ == "model.network.attention"
    assert DepthwiseConvolution.forward.__module__ == "model.network.kernels.depthwise"


def test_graphs_that_compute_something_else_are_refused(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Recogniser(exported.model.recipe).eval()
    monkeypatch.setattr(onnx_export, "export_graphs", lambda model, out: _copy_graphs(exported.folder, out))
    with pytest.raises(UserError, match=r"its graphs differ from torch by .*, more than 0.001; do not use them"):
        export_onnx(other, exported.tokenizer.content, "other", tmp_path / "other")
    assert not (tmp_path / "other" / "README.md").exists()


def _copy_graphs(source: Path, out: Path) -> None:
    for name in ("encoder.onnx", "decoder_step.onnx"):
        (out / name).write_bytes((source / name).read_bytes())


def test_without_the_packages_it_says_how_to_get_them(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"package 'onnxruntime' is missing, .* `pip install 'decred-study\[onnx\]'`"):
        export_onnx(exported.model, b"", "probe", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_folders_are_neither_written_into_nor_read(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(UserError, match="exists, and is neither an empty folder nor one of ONNX graphs"):
        export_onnx(exported.model, b"", "probe", tmp_path)
    with pytest.raises(UserError, match=r"has no config.json; give a folder that `decred-study export"):
        OnnxRecogniser(tmp_path)
    assert make_encoder_inputs([3, 7])[0].shape == (2, 7, 80)
