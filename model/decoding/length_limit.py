"""How long a hypothesis may get: learnt from the training text, so that a model that never says eos is soon stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from model.data.frontend import FRAMES_PER_SECOND

ENCODER_FRAMES_PER_SECOND = FRAMES_PER_SECOND / 4  # behind two convolutions of stride 2
EXTRA = 5  # tokens; a quarter of a second holds a short word, too


def resolve_tokens_per_second(setting: Literal["learnt", "none"] | float, learnt: float | None) -> float | None:
    """The bound that a recipe's `tokens_per_second` asks for; None where there is none, or where none was learnt."""
    if setting == "none":
        return None
    return learnt if setting == "learnt" else float(setting)


def find_limits(encoder_frames: Sequence[int], tokens_per_second: float | None) -> list[int]:
    """The most tokens of each utterance's hypotheses, eos counted: at most one for each encoder frame, and eos."""
    limits = [frames + 1 for frames in encoder_frames]
    if tokens_per_second is None:
        return limits
    rate = tokens_per_second / ENCODER_FRAMES_PER_SECOND
    return [min(limit, EXTRA + math.ceil(rate * (limit - 1))) for limit in limits]
