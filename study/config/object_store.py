"""What a study keeps in an object store: a part of the study file."""

from __future__ import annotations

from pydantic import Field, field_validator

from model.strict import Strict
from model.weights.run_store import WAIT_SECONDS

_LONGEST_WAIT = 1500.0  # a trial's other workers wait for half an hour


class ObjectStoreSettings(Strict):
    """What a study keeps in an object store; its ledger and all small files stay in its folder.

    Credentials and endpoint are those of the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
    """

    checkpoints: str | None = Field(
        None, description="URL for checkpoints and weights, such as s3://BUCKET/PREFIX; null = the study's folder"
    )
    artifacts: str | None = Field(
        None,
        description="URL for MLflow's artifacts where tracking is a database; null = the study's folder. An MLflow "
        "server has a place of its own",
    )
    wait_seconds: float = Field(
        WAIT_SECONDS,
        gt=0,
        le=_LONGEST_WAIT,
        description="how long a training waits for the store when it does not answer, before the study stops",
    )

    @field_validator("checkpoints", "artifacts")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        scheme, separator, path = url.partition("://")
        place = path.strip("/") if scheme != "file" else path
        if "@" in path:
            raise ValueError(
                "the URL must not hold a user or a password; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        if not (scheme and separator and place) or set(path) & set("?#*[]"):
            raise ValueError(f"is '{url}', but must be a URL such as s3://BUCKET/PREFIX; correct it")
        return url.rstrip("/")
