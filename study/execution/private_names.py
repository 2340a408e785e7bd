"""The names of Ray, MLflow and Optuna that are used although they are not public.

Another version may lack them, so a study checks them before it starts: one line names the version that fits, instead
of a traceback from a worker. A test finds the uses in the source and compares them with this table.
"""

from __future__ import annotations

import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from model.errors import UserError

FITTING = {"ray": ">=2.60,<2.61", "mlflow": ">=3.17,<4", "optuna": ">=5.0,<6"}  # as in pyproject.toml
PRIVATE_NAMES = (
    "ray._private.grpc_utils.init_grpc_channel",
    "ray._private.state.state._connect_and_get_accessor",
    "ray._private.state.state.available_resources_per_node",
    "ray._private.state.state.get_draining_nodes",
    "ray._private.worker._global_node",
    "ray._raylet.Config.initialize",
    "ray._raylet.PlacementGroupID",
    "ray.core.generated.gcs_pb2.PlacementGroupTableData",
    "ray.core.generated.gcs_service_pb2.CheckAliveRequest",
    "ray.core.generated.gcs_service_pb2_grpc.NodeInfoGcsServiceStub",
    # Of TorchTrainer's base: its own module imports torch, which takes seconds.
    "ray.train.v2.api.data_parallel_trainer.DataParallelTrainer._create_default_callbacks",
    "ray.train.v2._internal.execution.callback.ControllerCallback.after_controller_start",
    "mlflow.store.db.utils.MAX_RETRY_COUNT",
    "mlflow.tracking._tracking_service.utils._artifact_repos_cache",
)


def check_private_names(names: tuple[str, ...] = PRIVATE_NAMES) -> None:
    """Raise a UserError for the first name that the installed version lacks."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported
    for name in names:
        if not can_import(name):
            library = name.partition(".")[0]
            raise UserError(
                f"{library} {_describe_version(library)} has no {name}, which a study needs; "
                f"install a version that fits: pip install '{library}{FITTING[library]}'"
            )


def can_import(name: str) -> bool:
    """Whether a dotted name can be imported, or is an attribute of what can be imported."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for attribute in parts[count:]:
            if not hasattr(value, attribute):
                return False
            value = getattr(value, attribute)
        return True
    return False


def _describe_version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "(not installed)"
