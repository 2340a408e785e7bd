"""Where a study's notifications go, and what they are about.

The address of a webhook is a secret in most services. As in a tracking URI, ${NAME} stands for an environment variable;
the value is put in when a message is sent, and neither recorded nor printed.
"""

from __future__ import annotations

import os
import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from model.errors import UserError
from model.strict import Strict

Occasion = Literal["end", "stop", "failure", "best", "stall"]
EXAMPLE = "${NOTIFY_WEBHOOK}"

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# Slack, Teams and Discord put long random names into the path; a word of a plain path is shorter or has no digit.
_SECRET = re.compile(r"(?=[A-Za-z_-]*\d)[\w-]{16,}")
_ADDRESS = re.compile(r"[A-Za-z0-9._%+][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+|[A-Za-z_][A-Za-z0-9._-]*")


class NotifySettings(Strict):
    """Messages about a study to a command, a webhook or by mail, or to several of them."""

    command: str | None = Field(
        None,
        min_length=1,
        description="a program with its arguments, relative to the study file; it gets a message as JSON on its "
        "standard input, and in the variables DECRED_STUDY, DECRED_EVENT, DECRED_TEXT, DECRED_FOLDER and DECRED_TRIAL",
    )
    webhook: str | None = Field(
        None,
        repr=False,  # as for the tracking URI, notebooks show the value of a cell
        description='URL that gets {"text": ...}, as Slack and others take it; ${NAME} stands for an environment '
        "variable, as whatever is secret in it has to",
    )
    mail: str | None = Field(None, description="address that gets a mail, through the program sendmail")
    on: tuple[Occasion, ...] = Field(
        ("end", "stop", "failure", "best", "stall"),
        min_length=1,
        description="end: all trials have ended; stop: the study stops before that; failure: a trial failed for a "
        "reason that none before it had; best: a trial is better than all before it; stall: nothing was reported for "
        "stall_seconds",
    )
    pause_seconds: float = Field(
        60.0,
        ge=0,
        description="between two messages at least; what happens meanwhile is sent as one. After so long, and each "
        "time twice as long up to an hour, what could not be sent is tried again",
    )
    stall_seconds: float = Field(
        3600.0, gt=0, description="how long no trial reports anything before a message says so, while some run"
    )

    @model_validator(mode="after")
    def _check_channels(self) -> NotifySettings:
        if self.command is self.webhook is self.mail is None:
            raise ValueError("no receiver is given; give command, webhook or mail, or leave notify out")
        return self

    @field_validator("webhook")
    @classmethod
    def _check_webhook(cls, url: str | None) -> str | None:
        """The messages never have the URL, which may hold a secret by mistake."""
        if url is None:
            return None
        if not url.startswith("${") and not re.match(r"https?://[^/\s]+", url):
            raise ValueError(f"must be a URL such as https://HOST/PATH, or {EXAMPLE}; correct it")
        literal = _REFERENCE.sub("", url)
        if "@" in literal or "?" in literal or _SECRET.search(urlsplit(literal).path):
            raise ValueError(
                "holds what may be a secret, which the study's folder, uploads and their readers would see; write "
                f"{EXAMPLE} in its place, and set that environment variable"
            )
        return url

    @field_validator("mail")
    @classmethod
    def _check_mail(cls, address: str | None) -> str | None:
        if address is not None and not _ADDRESS.fullmatch(address):
            raise ValueError(f"is '{address}', but must be one address such as me@example.org; correct it")
        return address


def resolve_webhook(url: str) -> str:
    """The URL with the values of its environment variables; a UserError where one is not set, or it is no URL then."""

    def look_up(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise UserError(
                f"notify.webhook is '{url}', but the environment variable {match[1]} is not set; set it, or name "
                "another one"
            )
        return value.strip()

    resolved = _REFERENCE.sub(look_up, url)
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", resolved):
        raise UserError(
            f"notify.webhook is '{url}', which with its environment variables is no URL such as https://HOST/PATH; "
            "correct the variable"
        )
    return resolved


def mask_webhook(url: str) -> str:
    """A resolved URL as it is shown: its host alone."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return f"{urlsplit(url).scheme}://{host}/***"


def resolve_command(command: str, folder: str) -> str:
    """The command, whose program is relative to the study file's folder where it is named by a relative path."""
    program, _, rest = command.partition(" ")
    if "/" not in program or program.startswith(("/", "~", "'", '"')):
        return command
    return " ".join(filter(None, (os.path.normpath(os.path.join(folder, program)), rest)))
