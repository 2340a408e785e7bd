"""The model registry: a model folder becomes a version of a registered model, which MLflow can load and serve."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError
from model.strict import file_fingerprint
from model.weights.checkpoint_files import WEIGHTS
from model.weights.model_folder import DECODING, is_model_folder
from study.config.tracking_uri import mask_uri, resolve_uri
from study.tracking.mlflow_runs import NUMBER, PARENT, STUDY
from study.tracking.mlflow_store import artifact_location, brief, check_uri, connect

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

BEST = "best"  # the alias of the version that was registered last
CODE = Path(__file__).with_name("served_model.py")
CARD = "README.md"
HASH = "model.hash"  # of weights and decoding: the same model is not registered twice
_MAX_DESCRIPTION = 5000  # characters
_EXAMPLE_SECONDS, _RATE = 0.3, 16_000


@dataclass(frozen=True)
class Registered:
    """A version of a registered model; `is_new` where it was made now."""

    name: str
    version: str
    is_new: bool

    @property
    def uri(self) -> str:
        """By which MLflow's commands find it."""
        return f"models:/{self.name}@{BEST}"


def register_model(
    uri: str,
    study: str,
    folder: Path,
    name: str,
    trial: int | None = None,
    study_id: str | None = None,
    artifacts: Path | None = None,
) -> Registered:
    """Make a model folder the version `best` of the registered model `name`, in the store at `uri`.

    It is one of the models of the experiment `study`, and of the run of its `trial` where MLflow has that run;
    `study_id` distinguishes studies of one name. A model that is registered already becomes no second version.
    `artifacts` is the study's folder, for an experiment that has to be made. A UserError where the store does not
    take it.
    """
    if not is_model_folder(folder):
        raise UserError(f"{folder} is no model folder, so it cannot be registered; write one with export --best")
    check_uri(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of a handful of files
    try:
        client = connect(uri)
        known = _find_version(client, name, hash_model(folder))
        if known is not None:
            client.set_registered_model_alias(name, BEST, known)
            return Registered(name, known, is_new=False)
        experiment = _find_experiment(client, study, artifact_location(uri, artifacts or Path(), None))
        run = None if trial is None else _find_run(client, experiment, trial, study_id)
        with tempfile.TemporaryDirectory() as temporary:
            packed = Path(temporary) / "model"
            save_model(folder, packed)
            with _as_default(uri):
                return _upload(client, packed, folder, name, experiment, run, _make_tags(folder, study, trial))
    except UserError:
        raise
    except Exception as error:  # MLflow, its database and its HTTP client each raise their own
        raise UserError(
            f"the model was not registered as '{name}': tracking {mask_uri(uri)} does not take it "
            f"({brief(error, uri)}); correct that and repeat the command"
        ) from None


def hash_model(folder: Path) -> str:
    """Of what decides what a model folder transcribes."""
    return f"{file_fingerprint(folder / WEIGHTS)[:32]}-{file_fingerprint(folder / DECODING)[:16]}"


def save_model(folder: Path, out: Path) -> None:
    """Write a model folder as a model of MLflow's, with its code, signature and an example, to `out`."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    # A number type would refuse a column in which some rows have no rate.
    inputs = [ColSpec(AnyType(), "audio"), ColSpec(AnyType(), "sample_rate", required=False)]
    outputs = [ColSpec(DataType.string, "text"), ColSpec(DataType.string, "error")]
    with warnings.catch_warnings(record=True):  # it recommends type hints, which would replace the signature
        mlflow.pyfunc.save_model(
            path=str(out),
            python_model=str(CODE),
            artifacts={"model": str(folder.resolve())},
            signature=ModelSignature(Schema(inputs), Schema(outputs)),
            input_example=make_example(),
            pip_requirements=[f"decred-study=={version('decred-study')}"],
        )


def make_example() -> pd.DataFrame:
    """A short tone as base64 text of a WAV file: an input that needs no file."""
    import numpy as np
    import pandas as pd
    import soundfile

    samples = 0.1 * np.sin(2 * np.pi * 440 * np.arange(round(_EXAMPLE_SECONDS * _RATE)) / _RATE)
    stream = io.BytesIO()
    soundfile.write(stream, samples, _RATE, format="WAV")
    return pd.DataFrame({"audio": [base64.b64encode(stream.getvalue()).decode()]})


def _make_tags(folder: Path, study: str, trial: int | None) -> dict[str, str]:
    return {HASH: hash_model(folder), "study": study} | ({} if trial is None else {NUMBER: str(trial)})


def _find_version(client: MlflowClient, name: str, fingerprint: str) -> str | None:
    """The newest version of a registered model that is this model."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{HASH}` = '{fingerprint}'")
    return str(max((int(one.version) for one in found), default=0) or "") or None


def _find_experiment(client: MlflowClient, study: str, location: str | None) -> str:
    experiment = client.get_experiment_by_name(study)
    return str(experiment.experiment_id if experiment else client.create_experiment(study, location))


def _find_run(client: MlflowClient, experiment: str, trial: int, study_id: str | None) -> str | None:
    """The run of a trial; None where it was not sent yet."""
    query = f"tags.`{NUMBER}` = '{trial}'"
    if study_id is not None:
        parents = client.search_runs([experiment], f"tags.`{STUDY}` = '{study_id}'")
        if not parents:
            return None
        query += f" and tags.`{PARENT}` = '{parents[0].info.run_id}'"
    runs = client.search_runs([experiment], query, max_results=1)
    return runs[0].info.run_id if runs else None


@contextlib.contextmanager
def _as_default(uri: str) -> Iterator[None]:
    """Within it the store is the process's own: MLflow looks there for the model of a new version, whatever client it
    is asked by. It also puts the URI into the environment, where no password may stay."""
    import mlflow

    variable, before = "MLFLOW_TRACKING_URI", mlflow.get_tracking_uri()
    exported = os.environ.get(variable)
    mlflow.set_tracking_uri(resolve_uri(uri))
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop(variable, None)
        os.environ |= {} if exported is None else {variable: exported}


def _upload(
    client: MlflowClient, packed: Path, folder: Path, name: str, experiment: str, run: str | None, tags: dict[str, Any]
) -> Registered:
    """Send it, and only then make it a version: what was cut off is no version of anything."""
    model = client.create_logged_model(experiment, name, run, tags)
    client.log_model_artifacts(model.model_id, str(packed))
    client.finalize_logged_model(model.model_id, "READY")
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    card = folder / CARD
    made = client.create_model_version(
        name,
        source=f"models:/{model.model_id}",
        run_id=run,
        tags=tags,
        description=card.read_text(encoding="utf-8")[:_MAX_DESCRIPTION] if card.is_file() else None,
        model_id=model.model_id,
    )
    client.set_registered_model_alias(name, BEST, made.version)
    return Registered(name, str(made.version), is_new=True)
