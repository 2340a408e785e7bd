"""A registered model transcribes what it is given, by MLflow's own commands, and is not registered twice."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from free_ports import choose_port
from mlflow_server import Server
from ray_head import wait_until

import model
from model.corpora.corpus import Corpus
from model.errors import UserError
from model.recipe.recipe import Recipe
from model.training.loop import train
from model.weights.model_folder import DECODING, write_model_folder
from study.tracking.mlflow_store import connect, store_uri
from study.tracking.registry import make_example, register_model
from study.tracking.served_model import TranscriptionModel, make_table, read_audio

NAME = "probe-asr"


class Echo:
    """A transcriber that says what it was given."""

    def transcribe(self, audio: Any, rate: int) -> Any:
        if isinstance(audio, Path):
            raise UserError(f"{audio}: no such audio file; give another recording")
        self.text = f"{type(audio).__name__} of {len(audio)} at {rate} Hz"
        return self


def test_a_cell_is_a_path_a_uri_bytes_base64_text_or_samples(tmp_path: Path) -> None:
    path = tmp_path / "a name.wav"
    path.write_bytes(bytes(range(256)))
    assert read_audio(str(path)) == read_audio(path) == path
    assert read_audio(f"file://{str(path).replace(' ', '%20')}") == path
    assert read_audio(f"local://{path}") == path.read_bytes(), "by fsspec"
    assert read_audio(path.read_bytes()) == path.read_bytes()
    assert read_audio(base64.b64encode(path.read_bytes()).decode()) == path.read_bytes()
    assert read_audio("no-such.wav") == Path("no-such.wav")
    samples = read_audio([0.0, 0.5])
    assert isinstance(samples, np.ndarray)
    assert samples.dtype == np.float32
    with pytest.raises(
        UserError, match="audio is of type int, but must be a path, a URI, bytes, base64 text or a list"
    ):
        read_audio(3)
    with pytest.raises(UserError, match="no-scheme://x: cannot be read"):
        read_audio("no-scheme://x")


def test_a_recording_that_cannot_be_used_says_why_beside_the_texts_of_the_others() -> None:
    served = TranscriptionModel()
    served._transcriber = Echo()
    table = pd.DataFrame({"audio": [[0.0] * 8, b"x", "no.wav"], "sample_rate": [8000, None, None]})
    assert served.predict(None, table).to_dict("list") == {
        "text": ["ndarray of 8 at 8000 Hz", "bytes of 1 at 16000 Hz", ""],
        "error": ["", "", "no.wav: no such audio file; give another recording"],
    }
    assert served.predict(None, [b"xy"])["text"].tolist() == ["bytes of 2 at 16000 Hz"]
    with pytest.raises(UserError, match="the input has the columns path, but needs audio; name it so"):
        make_table({"path": ["a.wav"]})


def test_the_example_is_a_recording_that_needs_no_file() -> None:
    (cell,) = make_example()["audio"]
    content = read_audio(cell)
    assert isinstance(content, bytes)
    assert content.startswith(b"RIFF")


def test_another_folder_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no model folder, so it cannot be registered; write one with export --best"):
        register_model("sqlite:////nowhere/x.db", "probe", tmp_path, NAME)


@pytest.fixture(scope="module")
def folder(make_recipe: Callable[..., Recipe], corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a training of one epoch."""
    run, out = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("model") / "best"
    recipe = make_recipe({"training.epochs": 1})
    train(recipe, run, lambda metrics: None)
    write_model_folder(run, recipe, out)
    return out


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An MLflow server that keeps the models itself."""
    server = Server(f"sqlite:///{tmp_path}/server.db", tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_a_model_is_registered_once_with_card_signature_and_alias(folder: Path) -> None:
    uri = store_uri(None, folder.parent)
    registered, again = (register_model(uri, "probe", folder, NAME, artifacts=folder.parent) for _ in range(2))
    assert (registered.version, registered.is_new, again.version, again.is_new) == ("1", True, "1", False)
    client = connect(uri)
    assert client.get_model_version_by_alias(NAME, "best").version == 1
    decoding = (folder / DECODING).read_text()
    (folder / DECODING).write_text(f"{decoding}# changed\n")
    try:
        assert register_model(uri, "probe", folder, NAME, artifacts=folder.parent).version == "2"
    finally:
        (folder / DECODING).write_text(decoding)
    packed = folder.parent / "artifacts" / "models"
    assert not [*packed.rglob("*.pkl"), *packed.rglob("*.pickle")]
    assert [path.name for path in packed.rglob("served_model.py")] == ["served_model.py"] * 2


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_mlflows_commands_transcribe_real_audio(server: Server, folder: Path, corpus: Corpus, tmp_path: Path) -> None:
    registered = register_model(server.url, "probe", folder, NAME)
    assert "MLFLOW_TRACKING_URI" not in os.environ, "it could hold a password"
    path = next(corpus.folder.rglob("*.flac"))
    samples, rate = soundfile.read(path)
    expected = model.load_transcriber(folder).transcribe(path).text
    content = base64.b64encode(path.read_bytes()).decode()
    rows = [[str(path), None], [content, None], [samples.tolist(), rate], ["no-such.wav", None]]
    request = {"dataframe_split": {"columns": ["audio", "sample_rate"], "data": rows}}
    (tmp_path / "in.json").write_text(json.dumps(request))
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])  # serve runs uvicorn
    common = [sys.executable, "-m", "mlflow", "models"]
    model_of = ["-m", registered.uri, "--env-manager", "local"]
    files = ["-i", str(tmp_path / "in.json"), "-o", str(tmp_path / "out.json"), "-t", "json"]
    subprocess.run([*common, "predict", *model_of, *files], env=environment, check=True, timeout=200)
    answers = [json.loads((tmp_path / "out.json").read_text())["predictions"]]

    for url in serve([*common, "serve", *model_of], environment):
        headers = {"Content-Type": "application/json"}
        post = urllib.request.Request(f"{url}/invocations", json.dumps(request).encode(), headers)
        with urllib.request.urlopen(post, timeout=60) as answer:
            answers.append(json.load(answer)["predictions"])
    for rows in answers:
        assert [row["text"] for row in rows] == [expected, expected, expected, ""]
        assert [row["error"] != "" for row in rows] == [False, False, False, True]


def serve(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    """The address of a scoring server, once, while it runs."""
    port = choose_port()
    with subprocess.Popen([*command, "--port", str(port)], env=environment, start_new_session=True) as process:
        try:
            assert wait_until(lambda: _answers(port) or process.poll() is not None, 120)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
