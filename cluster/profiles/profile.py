"""What profiles of all kinds have: how a cluster is reached, and where studies and corpora lie on it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _check_absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"'{path}' must be an absolute path, which is the same on all machines of the cluster")
    return path


def _check_tunnel(command: str) -> str:
    if "{port}" not in command:
        raise ValueError(f"'{command}' lacks {{port}}, the port of this machine at which the dashboard is reached")
    return command


AbsolutePath = Annotated[str, AfterValidator(_check_absolute)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


class Settings(BaseModel):
    """A frozen part of a profile; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Profile(Settings):
    """A cluster on which studies run."""

    storage: AbsolutePath = Field(
        description="folder that holds study folders, on a file system that all machines of the cluster share"
    )
    mounted: AbsolutePath | None = Field(
        None, description="where that folder is mounted on this machine too; null = what it holds is fetched by jobs"
    )
    paths: dict[AbsolutePath, AbsolutePath] = Field(
        {}, description="folders of this machine, as the cluster's machines have them: corpora, recipes, weights"
    )
    dashboard: str | None = Field(None, description="URL of the head's dashboard, http://HOST:8265, which takes jobs")
    tunnel: Annotated[str, AfterValidator(_check_tunnel)] | None = Field(
        None,
        description="command that forwards the port {port} of this machine to the dashboard while a command of "
        "decred-study runs: `ssh -N -L {port}:{dashboard} me@login`, where {dashboard} is the head's HOST:PORT, or "
        "`kubectl port-forward service/HEAD {port}:8265`",
    )
    token_file: str | None = Field(None, description="file with the cluster's token; null = ~/.ray/auth_token")
    tracking: str | None = Field(
        None, description="MLflow tracking URI as the cluster's machines reach it; null = the study file's"
    )
    env: dict[str, str] = Field({}, description="environment variables of the studies, such as GLOO_SOCKET_IFNAME")
    pass_env: tuple[str, ...] = Field(
        (), description="variables that studies get from the environment of whoever submits, and no others"
    )
    exclude: tuple[str, ...] = Field(
        (), description="addresses of machines that trials are not placed on; `preflight` prints those with faults"
    )

    @property
    def passed(self) -> tuple[str, ...]:
        """The variables of `pass_env` that go with a study; a kind may have another way for them."""
        return self.pass_env

    def path_there(self, path: str) -> str:
        """A path of this machine as the cluster has it: below the longest of `paths` that holds it, or the same."""
        here = PurePosixPath(path)
        for folder in sorted(self.paths, key=len, reverse=True):
            if here.is_relative_to(folder):
                return str(PurePosixPath(self.paths[folder]) / here.relative_to(folder))
        return path


class RayProfile(Profile):
    """A running Ray cluster."""

    kind: Literal["ray"]
