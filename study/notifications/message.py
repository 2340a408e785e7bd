"""A message about a study: what receivers get, as JSON, as environment variables and as plain text."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from study.config.notify import Occasion

SCHEMA = 1  # of the JSON; raised when a field changes its meaning, not when one is added
MOST_LINES = 20  # of what happened, in the text; the JSON has all

Event = Occasion | str


@dataclass(frozen=True)
class Happening:
    """Something that a message is about: its occasion, in one line what happened, and of which trial."""

    event: Event
    text: str
    trial: int | None = None
    time: float = field(default_factory=time.time)  # Unix seconds


@dataclass(frozen=True)
class Message:
    """What happened to a study since the last message, oldest first; at least one thing."""

    study: str
    folder: str
    happenings: Sequence[Happening]

    @property
    def subject(self) -> str:
        """A line on the latest thing that happened, and how many there were."""
        more = f" (and {len(self.happenings) - 1} more)" if len(self.happenings) > 1 else ""
        return f"study {self.study}: {self.happenings[-1].text}{more}"

    @property
    def text(self) -> str:
        """A line for each thing that happened, of many the newest."""
        left_out = len(self.happenings) - MOST_LINES
        lines = [f"study {self.study}: {happening.text}" for happening in self.happenings[-MOST_LINES:]]
        return "\n".join([f"study {self.study}: {left_out} earlier messages are left out"] * (left_out > 0) + lines)

    def to_json(self) -> str:
        """One object: schema, study, folder, event, text and trial of the latest thing, and all of them as `events`."""
        latest = self.happenings[-1]
        content = {
            "schema": SCHEMA,
            "study": self.study,
            "folder": self.folder,
            "event": latest.event,
            "text": self.text,
            "trial": latest.trial,
            "time": latest.time,
            "events": [
                {"event": one.event, "text": one.text, "trial": one.trial, "time": one.time} for one in self.happenings
            ],
        }
        return json.dumps(content, ensure_ascii=False)

    def to_environment(self) -> dict[str, str]:
        """The variables of a command; DECRED_TRIAL is empty where the latest thing is of no trial."""
        latest = self.happenings[-1]
        return {
            "DECRED_STUDY": self.study,
            "DECRED_FOLDER": self.folder,
            "DECRED_EVENT": str(latest.event),
            "DECRED_TEXT": self.text,
            "DECRED_TRIAL": "" if latest.trial is None else str(latest.trial),
        }
