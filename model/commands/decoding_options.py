"""Options of several commands: how a model is decoded, as keys of the recipe's `decoding`; whether its code is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from model.errors import UserError

LmFile = Annotated[
    Path | None, typer.Option("--lm", help="a language model to decode with, as `lm` writes it; takes --lm-weight")
]
LmWeight = Annotated[float | None, typer.Option(help="weight of the language model in decoding, not the model's")]
IlmWeight = Annotated[
    float | None, typer.Option(help="weight with which the internal language model is subtracted, not the model's")
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="run the Python code of a model whose network is a user's own")
]


def language_model_keys(lm: Path | None, lm_weight: float | None, ilm_weight: float | None) -> dict[str, Any]:
    """The keys of `decoding` that the options set. Raises a UserError for a language model without a weight."""
    if lm is not None and lm_weight is None:
        raise UserError(f"--lm is {lm}, but its weight is not given; add --lm-weight, such as 0.3")
    keys: dict[str, Any] = {"lm": str(lm.resolve()), "lm_fingerprint": None} if lm is not None else {}
    weights = {"lm_weight": lm_weight, "ilm_weight": ilm_weight}
    return keys | {key: weight for key, weight in weights.items() if weight is not None}
