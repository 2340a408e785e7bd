"""Language models as files: one safetensors file with the weights or n-grams, and a header that says what it is.

The header names the tokenizer by its fingerprint: token ids of another tokenizer mean other pieces.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.data.tokenizer import Tokenizer
from model.errors import UserError
from model.lm.ngram import NgramLm
from model.lm.transformer import TransformerLm, TransformerLmConfig
from model.recipe.architecture import Count
from model.strict import Strict, file_fingerprint, write_atomically

HEADER = "decred_lm"  # the key of safetensors' metadata
LanguageModel = NgramLm | TransformerLm


class LmHeader(Strict):
    """What a file of a language model is, and what it was made from.

    `tokenizer` is the fingerprint of the tokenizer's file. `order` is of an n-gram model, `transformer` has the sizes
    of a Transformer. `sentences` and `tokens` are those of the text that it was estimated on, `dev_perplexity` is that
    of the tokens of the dev text.
    """

    version: Literal[1] = 1
    kind: Literal["ngram", "transformer"]
    tokenizer: str
    vocabulary: Count
    order: Count | None = None
    transformer: TransformerLmConfig | None = None
    sentences: int
    tokens: int
    dev_perplexity: float | None = None


def fingerprint_tokenizer(tokenizer: Tokenizer) -> str:
    """`file_fingerprint` of the tokenizer's file."""
    return hashlib.sha256(tokenizer.content).hexdigest()[:16]


def save_lm(path: Path, model: LanguageModel, header: LmHeader) -> None:
    """Write a language model to a file, whole or not at all."""
    tensors = model.to_tensors() if isinstance(model, NgramLm) else model.state_dict()
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(content, {HEADER: header.model_dump_json()}))


def read_header(path: Path) -> LmHeader:
    """What the file is. Raises a UserError where it is missing, damaged, or no language model."""
    return _read(path, with_tensors=False)[0]


def check_lm(path: Path, tokenizer: Tokenizer, fingerprint: str | None = None) -> str:
    """The fingerprint of a file, where `load_lm` would take it; else the same UserErrors."""
    header, actual = read_header(path), file_fingerprint(path)
    if fingerprint not in (None, actual):
        raise UserError(
            f"{path}: its content is {actual}, but the recipe's decoding was made for {fingerprint}; give the original "
            "language model, or set decoding.lm_fingerprint to null to use this one"
        )
    if header.tokenizer != (own := fingerprint_tokenizer(tokenizer)):
        raise UserError(
            f"{path}: was made for the tokenizer {header.tokenizer}, but that of the model is {own}; make one for it "
            "with `lm`"
        )
    return actual


def load_lm(
    path: Path, tokenizer: Tokenizer, fingerprint: str | None = None, device: torch.device | str = "cpu"
) -> LanguageModel:
    """The language model in a file, ready to score tokens on a device.

    Raises a UserError where the file is missing, damaged or no language model, where its content is not that of the
    `fingerprint`, or where it was made for another tokenizer.
    """
    check_lm(path, tokenizer, fingerprint)
    header, tensors = _read(path)
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    try:
        return _build(header, tensors, device)
    except (KeyError, RuntimeError) as error:
        raise UserError(_describe_damage(path, error)) from None


def _build(header: LmHeader, tensors: dict[str, Tensor], device: torch.device | str) -> LanguageModel:
    if header.kind == "ngram":
        return NgramLm.from_tensors(tensors, header.order or 1, header.vocabulary)
    with torch.random.fork_rng():  # initial weights are drawn, and then replaced
        model = TransformerLm(header.vocabulary, header.transformer or TransformerLmConfig()).to(device)
    model.load_state_dict(tensors)
    return model.eval()


def _read(path: Path, with_tensors: bool = True) -> tuple[LmHeader, dict[str, Tensor]]:
    if not path.is_file():
        raise UserError(f"{path}: there is no such language model; make one with `lm`, or give the path of one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            header = LmHeader.model_validate(json.loads(metadata[HEADER]))
            return header, {name: file.get_tensor(name) for name in (file.keys() if with_tensors else ())}
    except (OSError, SafetensorError, ValidationError, ValueError, KeyError) as error:
        raise UserError(_describe_damage(path, error)) from None


def _describe_damage(path: Path, error: Exception) -> str:
    reason = f"its header has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
    return f"{path}: holds no language model of `lm` ({reason}); make it again"
