"""The code of a registered model: MLflow keeps this file beside the model folder and runs it where the model is loaded.

So nothing is pickled. It needs this project installed, of the version that the model's requirements name.

Input is a table with a column `audio`: in each row the path or URI of a recording, the bytes of an audio file (in JSON
as base64 text), or its samples as a list or array; then a column `sample_rate` gives their rate in Hz, 16,000 where it
is missing. Output is a table with the columns `text` and `error`: a recording that cannot be used has no text and says
why, and the others are transcribed.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from model.errors import UserError

FOLDER = "model"  # the artifact that is the model folder
RATE = 16_000  # Hz, of samples whose rate is not given


class TranscriptionModel(PythonModel):
    """A transcriber behind MLflow's interface of models."""

    def load_context(self, context: Any) -> None:
        """Load the model folder among the artifacts."""
        from model.api import load_transcriber

        # Who loads a model by MLflow has agreed to run the code in it: this file itself is some of it.
        self._transcriber = load_transcriber(context.artifacts[FOLDER], trust_code=True)

    # Without type hints, which MLflow would take for a signature of its own.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """The text of each recording, or why there is none."""
        table = make_table(model_input)
        rates = table["sample_rate"] if "sample_rate" in table else [None] * len(table)
        results = [self._transcribe(audio, rate) for audio, rate in zip(table["audio"], rates, strict=True)]
        return pd.DataFrame(results, columns=["text", "error"])

    def _transcribe(self, audio: Any, rate: Any) -> tuple[str, str]:
        try:
            rate = RATE if rate is None or pd.isna(rate) else int(rate)
            return self._transcriber.transcribe(read_audio(audio), rate).text, ""
        except UserError as error:
            return "", str(error)


def make_table(model_input: Any) -> pd.DataFrame:
    """The input as a table with a column `audio`; a list is that column."""
    if isinstance(model_input, pd.DataFrame):
        table = model_input
    elif isinstance(model_input, dict):
        table = pd.DataFrame(model_input)
    else:
        table = pd.DataFrame({"audio": list(model_input)})
    if "audio" not in table:
        raise UserError(f"the input has the columns {', '.join(map(str, table.columns))}, but needs audio; name it so")
    return table


def read_audio(audio: Any) -> Path | bytes | np.ndarray:
    """A cell as what a transcriber takes: a path, the bytes of a file, or an array of samples."""
    if isinstance(audio, np.ndarray | list | tuple):
        return np.asarray(audio, dtype=np.float32)
    if isinstance(audio, bytes | Path):
        return audio
    if not isinstance(audio, str):
        raise UserError(
            f"audio is of type {type(audio).__name__}, but must be a path, a URI, bytes, base64 text or a list of "
            "samples; give one of them"
        )
    if "://" in audio[:20]:
        return _fetch(audio)
    # Base64 of an audio file has a slash in it about as often as a path; but it is no file, and longer than a name.
    if len(audio) < 4096 and Path(audio).exists():
        return Path(audio)
    try:
        return base64.b64decode(audio, validate=True) if len(audio) > 100 else Path(audio)
    except binascii.Error:
        return Path(audio)


def _fetch(uri: str) -> Path | bytes:
    """The file of a file:// URI, or what another URI gives by fsspec."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    import fsspec

    try:
        with fsspec.open(uri, "rb") as file:
            content: bytes = file.read()
    except Exception as error:  # of whatever package serves the scheme
        raise UserError(f"{uri}: cannot be read ({error}); give another URI, or the bytes of the file") from None
    return content


set_model(TranscriptionModel())
