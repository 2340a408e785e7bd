"""An exported model run by onnxruntime: greedy decoding with CTC or with attention, without torch's network.

Beam search with CTC prefix scores is not part of the graphs; it takes the same logits (model/decoding/).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from model.data.tokenizer import TOKENIZER_FILE, Tokenizer
from model.errors import UserError
from model.onnx.graphs import DECODER, DECODER_INPUTS, ENCODER, ENCODER_OUTPUTS

CONFIG = "config.json"
Array = np.ndarray[Any, np.dtype[Any]]


class OnnxRecogniser:
    """The graphs in a folder that `export --format onnx` wrote; config.json has the special tokens and sizes."""

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        """`threads` of 0 are all cores. A UserError where onnxruntime or a file is missing."""
        runtime, folder = import_runtime(), Path(folder)
        try:
            self.config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(
                f"{folder}: has no {CONFIG}; give a folder that `decred-study export STUDY --format onnx` wrote"
            ) from None
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        self._encoder, self._decoder = (
            runtime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
            for name in (ENCODER, DECODER)
        )
        self.tokenizer = Tokenizer(folder / TOKENIZER_FILE)

    def encode(self, features: Array, lengths: Array) -> dict[str, Array]:
        """Features (B, T, 80) float32 and lengths (B,) int64 -> the encoder graph's outputs by name."""
        values = self._encoder.run(None, {"features": features, "lengths": lengths})
        return dict(zip(ENCODER_OUTPUTS, values, strict=True))

    def step(self, *inputs: Array) -> list[Array]:
        """The decoder graph's outputs for its inputs, in the order of model/onnx/graphs.py."""
        return list(self._decoder.run(None, dict(zip(DECODER_INPUTS, inputs, strict=True))))

    def decode_ctc(self, encoded: dict[str, Array]) -> list[str]:
        """The text of each utterance by the best path of the CTC head."""
        texts = []
        for best, frames in zip(encoded["ctc_logits"].argmax(axis=-1), encoded["frames"], strict=True):
            path = best[:frames]
            changes = np.concatenate(([True], path[1:] != path[:-1])) if len(path) else path.astype(bool)
            ids = [int(token) for token in path[changes] if token != self.config["blank"]]
            texts.append(self.tokenizer.decode(ids))
        return texts

    def decode_attention(self, encoded: dict[str, Array]) -> list[str]:
        """The text of each utterance by greedy search with the decoder alone, to eos, or to a token for each frame."""
        special, B = self.config["special"], len(encoded["frames"])
        cross = [encoded[name] for name in ("cross_keys", "cross_values", "cross_bias")]
        L, H, E = (self.config[name] for name in ("layers", "heads", "head_width"))
        past: list[Array] = [np.zeros((L, B, H, 0, E), np.float32)] * 2
        tokens = np.full((B, 1), special["bos"], np.int64)
        found: list[list[int]] = [[] for _ in range(B)]
        limits = encoded["frames"] + 1
        is_open = np.ones(B, bool)
        while is_open.any():
            logits, *past = self.step(tokens, *cross, *past)
            tokens = logits.argmax(axis=-1)
            for row in np.flatnonzero(is_open):
                found[row].append(int(tokens[row, 0]))
                is_open[row] = found[row][-1] != special["eos"] and len(found[row]) < limits[row]
        return [self.tokenizer.decode(ids) for ids in found]


def import_runtime() -> Any:
    """The package onnxruntime; a UserError where it is missing."""
    try:
        import onnx  # noqa: F401  # the exporter needs it, and it comes with the same extra
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"package '{error.name}' is missing, which --format onnx needs; install it with "
            "`pip install 'decred-study[onnx]'`"
        ) from None
    return onnxruntime
