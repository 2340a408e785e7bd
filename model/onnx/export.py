"""A trained model as a folder of ONNX graphs, checked against torch, with what a step of each costs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.data.frontend import FRAMES_PER_SECOND
from model.data.tokenizer import TOKENIZER_FILE
from model.errors import UserError
from model.network.making import refuse_custom
from model.network.recogniser import Recogniser
from model.onnx.graphs import (
    DECODER,
    ENCODER,
    OPSET,
    DecoderGraph,
    EncoderGraph,
    export_graphs,
    make_decoder_inputs,
    make_encoder_inputs,
)
from model.onnx.recogniser import CONFIG, OnnxRecogniser, import_runtime
from model.recipe.architecture import MEL_BINS, SAMPLE_RATE
from model.strict import make_folders, write_atomically

LARGEST_DIFFERENCE = 1e-3  # of logits and states, whose size is about 1 to 10; rounding gives 1e-5
AUDIO_SECONDS = 10.0  # of the utterance that is timed
TOKENS = 40  # of the hypothesis whose next step is timed
_REPEATS = 5

README = """# {name} as ONNX

`{encoder}` is the encoder with its CTC head, `{decoder}` one step of the decoder, opset {opset};
`tokenizer.model` is a SentencePiece model, `config.json` has the special tokens and sizes. Axes: B utterances, T
feature frames, S encoder frames, K hypotheses an utterance, N = B K, U tokens so far; all of them may have any length.
L decoder layers, H heads, E width of a head and V tokens are in `config.json`.

| graph | input | shape | output | shape |
|---|---|---|---|---|
| encoder | `features` float32 | (B, T, {bins}) | `ctc_logits` | (B, S, V + 1), the blank is `config.json`'s |
| | `lengths` int64, in frames | (B,) | `frames`, the valid ones of S | (B,) |
| | | | `cross_keys`, `cross_values` | (L, B, H, S, E) |
| | | | `cross_bias`, masks padding | (B, 1, 1, S) |
| decoder | `tokens` int64 | (B, K) | `logits` of the next token | (B, K, V) |
| | `cross_keys`, `cross_values`, `cross_bias` | as above | `keys`, `values`, the next past | (L, N, H, U + 1, E) |
| | `past_keys`, `past_values`, U = 0 at first | (L, N, H, U, E) | | |

Features are not in the graphs: Kaldi's log-mel energies of {rate} Hz audio in [-1, 1] times 32768 ({bins} bins, windows
of 25 ms every 10 ms, no dither; `torchaudio.compliance.kaldi.fbank`, kaldi-native-fbank, or `model.data.frontend`), and
then of each bin, over the utterance, mean 0 and deviation 1.

```python
from pathlib import Path

import numpy as np
import torch

from model.corpora.audio import read_audio
from model.data.frontend import extract_features
from model.onnx.recogniser import OnnxRecogniser

recogniser = OnnxRecogniser("MODEL")
features = extract_features(torch.from_numpy(read_audio(Path("speech.wav"))).float()).numpy()
encoded = recogniser.encode(features[None], np.array([len(features)]))
print(recogniser.decode_ctc(encoded), recogniser.decode_attention(encoded))
```

{check}
"""


@dataclass(frozen=True)
class OnnxCheck:
    """The largest absolute differences to torch, and milliseconds of the graphs and of torch, on one thread."""

    encoder_difference: float
    decoder_difference: float
    encoder_ms: tuple[float, float]  # onnxruntime, torch
    decoder_ms: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"Checked against torch on noise of several lengths: the largest difference is "
            f"{self.encoder_difference:.1e} in the encoder and {self.decoder_difference:.1e} in a decoder step. On one "
            f"thread of this CPU the encoder takes {self.encoder_ms[0]:.1f} ms for {AUDIO_SECONDS:g} s of audio (torch "
            f"{self.encoder_ms[1]:.1f}), a decoder step after {TOKENS} tokens {self.decoder_ms[0]:.2f} ms (torch "
            f"{self.decoder_ms[1]:.2f})."
        )


def export_onnx(model: Recogniser, tokenizer: bytes, name: str, out: Path) -> OnnxCheck:
    """Write the graphs of a model on the CPU, its tokenizer, sizes and a README to a folder; how they compare to torch.

    A UserError where a package is missing, or where the graphs compute something else than torch.
    """
    refuse_custom(model.recipe, "ONNX", "export it as a model folder")
    import_runtime()
    if out.exists() and not ((out / ENCODER).is_file() or (out.is_dir() and not any(out.iterdir()))):
        raise UserError(f"{out}: exists, and is neither an empty folder nor one of ONNX graphs; give another one")
    make_folders(out)
    export_graphs(model.eval(), out)
    write_atomically(out / TOKENIZER_FILE, tokenizer)
    write_atomically(out / CONFIG, json.dumps(describe_sizes(model), indent=1) + "\n")
    check = check_graphs(model, OnnxRecogniser(out, threads=1))
    largest = max(check.encoder_difference, check.decoder_difference)
    if not largest < LARGEST_DIFFERENCE:
        raise UserError(
            f"{out}: its graphs differ from torch by {largest:.2g}, more than {LARGEST_DIFFERENCE:g}; do not use them, "
            "and try another version of onnxruntime"
        )
    parts = {"encoder": ENCODER, "decoder": DECODER, "opset": OPSET, "bins": MEL_BINS, "rate": SAMPLE_RATE}
    write_atomically(out / "README.md", README.format(name=name, check=check, **parts))
    return check


def describe_sizes(model: Recogniser) -> dict[str, Any]:
    """What a program needs to know of the graphs' inputs and outputs."""
    config = model.recipe.decoder
    return {
        "recipe_hash": model.recipe.hash,
        "vocabulary": model.recipe.tokenizer.vocabulary,
        "blank": model.blank,
        "special": model.special.model_dump(mode="json"),
        "layers": config.layers,
        "heads": config.heads,
        "head_width": config.width // config.heads,
        "mel_bins": MEL_BINS,
        "sample_rate": SAMPLE_RATE,
    }


@torch.inference_mode()
def check_graphs(model: Recogniser, exported: OnnxRecogniser) -> OnnxCheck:
    """Compare the graphs with torch on batches of several shapes, and time both; `exported` has one thread."""
    encoder, decoder = EncoderGraph(model).eval(), DecoderGraph(model).eval()
    differences = [0.0, 0.0]
    for lengths in ([7], [100, 61], [333, 200, 90]):
        inputs = make_encoder_inputs(lengths)
        found = exported.encode(*(tensor.numpy() for tensor in inputs)).values()
        differences[0] = max(differences[0], _largest_difference(encoder(*inputs), found))
    for B, K, S, U in ((1, 1, 5, 0), (2, 4, 9, 1), (3, 2, 30, 20)):
        step = make_decoder_inputs(model, B, K, S, U)
        stepped = exported.step(*(tensor.numpy() for tensor in step))
        differences[1] = max(differences[1], _largest_difference(decoder(*step), stepped))
    frames = int(AUDIO_SECONDS * FRAMES_PER_SECOND)
    features = make_encoder_inputs([frames])
    arrays = [tensor.numpy() for tensor in features]
    step = make_decoder_inputs(model, 1, 1, frames // 4, TOKENS)
    step_arrays = [tensor.numpy() for tensor in step]
    with _one_thread():
        encoder_ms = _measure_ms(lambda: exported.encode(*arrays)), _measure_ms(lambda: encoder(*features))
        decoder_ms = _measure_ms(lambda: exported.step(*step_arrays)), _measure_ms(lambda: decoder(*step))
    return OnnxCheck(differences[0], differences[1], encoder_ms, decoder_ms)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _largest_difference(ours: Any, theirs: Any) -> float:
    """The largest of all outputs; of the mask only whether it masks, since its size has no meaning."""
    pairs = [(one.numpy(), other) for one, other in zip(ours, theirs, strict=True)]
    clipped = [(np.clip(one, -1e4, 1e4), np.clip(other, -1e4, 1e4)) for one, other in pairs]
    return max(float(np.abs(one - other).max()) for one, other in clipped)


def _measure_ms(call: Callable[[], object]) -> float:
    """The shortest of some calls, in milliseconds: the others were disturbed."""
    call()
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds)
