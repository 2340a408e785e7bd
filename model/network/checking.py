"""A check of a user's network before it trains: what model/network/protocol.py promises is tried on a random batch.

Shapes: B utterances, K hypotheses of each, T feature frames, S states, N classifiers, U tokens, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.errors import UserError
from model.network.custom_source import fingerprint_source
from model.network.decoder import mix_logits
from model.network.losses import IGNORED, Counts, Losses
from model.network.making import make_model
from model.network.recogniser import EncoderOutput, Recogniser, shift_right
from model.network.subsampling import subsampled_length
from model.recipe.architecture import MEL_BINS
from model.recipe.recipe import Recipe

FRAMES, TOKENS = (160, 120), (6, 4)  # of the two utterances of the batch
TOLERANCE = 1e-3  # relative to the largest logit, in float32: an order of sums may differ, not what is summed
SLACK = 2  # states that there may be more or fewer than one for every 4 frames
HYPOTHESES = 2


def check_custom_model(recipe: Recipe) -> dict[str, str]:
    """Make and check the recipe's own network, where it has one: the recipe's keys that identify it and its place."""
    config = recipe.custom_model
    if config.factory is None:
        return {}
    with torch.random.fork_rng(devices=[]):
        check_model(make_model(recipe))
    path = {} if config.path is None else {"custom_model.path": str(Path(config.path).resolve())}
    return path | {"custom_model.fingerprint": fingerprint_source(config)}


def check_model(model: Recogniser) -> None:
    """Raise a UserError for the first promise that the model does not keep; weights and random state stay.

    Shapes, `step` against `classify`, hypotheses and utterances that are chosen and reordered, the terms of the loss,
    its division by counts, and a finite gradient for every parameter that is trained.
    """
    was_training, device = model.training, model.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _end_with_no_gradients(model):
        torch.manual_seed(0)
        features = torch.randn(len(FRAMES), max(FRAMES), MEL_BINS, device=device)
        lengths = torch.tensor(FRAMES)
        labels = _draw_labels(model)
        with torch.no_grad():
            encoded = _check_encoding(model.eval(), features, lengths)
            _check_decoding(model, encoded, shift_right(labels.to(device), model.special))
        _check_loss(model, features, lengths, labels)
        model.train(was_training)


@contextlib.contextmanager
def _end_with_no_gradients(model: Recogniser) -> Iterator[None]:
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)


def _draw_labels(model: Recogniser) -> Tensor:
    """(B, U), eos last, -100 where there is none."""
    special = model.special
    text = [token for token in range(model.vocabulary) if token not in special.model_dump().values()]
    labels = torch.full((len(TOKENS), max(TOKENS)), IGNORED)
    for row, count in enumerate(TOKENS):
        labels[row, : count - 1] = torch.tensor(text)[torch.randint(len(text), (count - 1,))]
        labels[row, count - 1] = special.eos
    return labels


def _check_encoding(model: Recogniser, features: Tensor, lengths: Tensor) -> EncoderOutput:
    with _naming(model, "encode"):
        states, frames = model.encode_states(features, lengths)
        shape, batch = tuple(states.shape), len(FRAMES)
    _require(
        model,
        len(shape) == 3 and shape[0] == batch and tuple(frames.shape) == (batch,) and not frames.is_floating_point(),
        f"encode gave states {shape} and lengths {tuple(frames.shape)} of {frames.dtype}, but must give (B, S, D) and "
        f"whole numbers (B,), with B = {batch}",
    )
    for length, frame_count in zip(frames.tolist(), FRAMES, strict=True):
        wanted = subsampled_length(frame_count)
        _require(
            model,
            abs(length - wanted) <= SLACK and length <= shape[1],
            f"encode gave {length} states for {frame_count} frames, in {shape[1]} of the batch, but must give about "
            f"{wanted}, one for every 4 frames",
        )
    with _naming(model, "ctc"):
        encoded = model.add_ctc(states, frames)
    _require_shape(model, "ctc", encoded.ctc_logits, (batch, shape[1], model.ctc_classes))
    return encoded


def _check_decoding(model: Recogniser, encoded: EncoderOutput, tokens: Tensor) -> None:
    """`classify`, and `step` against it: two hypotheses of each utterance, of which one differs in its second token."""
    (B, U), V = tokens.shape, model.vocabulary
    other = tokens.clone()
    other[:, 1] = torch.where(tokens[:, 1] == model.special.eos, model.special.unk, model.special.eos)
    with _naming(model, "prepare_memory"):
        memory = model.prepare_memory(encoded)
    for name, read in (("", memory), (" without memory", None)):
        with _naming(model, f"classify{name}"):
            hypotheses = [model.decoder.classify(ids, read) for ids in (tokens, other)]
        _check_classifiers(model, f"classify{name}", hypotheses[0], (B, U, V))
        before, weights = model.decoder.mixing, torch.arange(1.0, len(hypotheses[0]) + 1, device=tokens.device)
        expected = torch.stack([mix_logits(logits, weights) for logits in hypotheses], dim=1)
        model.decoder.mixing = weights  # all classifiers are compared then, in their order
        with _naming(model, f"step{name}"):
            _check_steps(model, f"step{name}", read, torch.stack((tokens, other), dim=1), expected)
        model.decoder.mixing = before


def _check_steps(model: Recogniser, name: str, memory: Any, ids: Tensor, expected: Tensor) -> None:
    """`step` over ids (B, K, U) gives the logits (B, K, U, V), while hypotheses are chosen as beam search does."""
    caches, rows = model.decoder.new_caches(), torch.arange(ids.shape[0] * HYPOTHESES, device=ids.device)
    for position in range(ids.shape[2]):
        if position == 2:  # the hypotheses of each utterance change places
            expected, ids = expected.flip(1), ids.flip(1)
            _select(caches, rows.view(-1, HYPOTHESES).flip(1).flatten())
        if position == 3:  # only the last utterance goes on
            kept = torch.tensor([len(ids) - 1], device=ids.device)
            expected, ids = expected[kept], ids[kept]
            memory = None if memory is None else memory.select(kept)
            _select(caches, rows[-HYPOTHESES:])
        logits = model.decoder.step(ids[:, :, position], memory, caches)
        _require_shape(model, name, logits, (*ids.shape[:2], expected.shape[3]))
        difference = float((logits - expected[:, :, position]).abs().max())
        _require(
            model,
            difference <= TOLERANCE * (1 + float(expected.abs().max())),
            f"the logits that {name} gives for token {position + 1} differ from those of classify by up to "
            f"{difference:.2g}; both must be the same function of the tokens so far",
        )


def _select(caches: list[Any], rows: Tensor) -> None:
    for cache in caches:
        cache.select(rows)


def _check_classifiers(model: Recogniser, name: str, logits: list[Tensor], shape: tuple[int, ...]) -> None:
    wanted = len(model.decoder.placement) + 1
    _require(
        model,
        len(logits) == wanted,
        f"{name} gave logits of {len(logits)} classifiers, but must give {wanted}: those of "
        "loss.auxiliary.placement and the final one",
    )
    for one in logits:
        _require_shape(model, name, one, shape)


def _check_loss(model: Recogniser, features: Tensor, lengths: Tensor, labels: Tensor) -> None:
    counts = Counts(len(TOKENS), sum(TOKENS))
    with _naming(model, "the loss"):
        whole = model.loss(features, lengths, labels, counts=counts)
        doubled = model.loss(features, lengths, labels, counts=Counts(2 * counts.utterances, 2 * counts.tokens))
        _check_terms(model, whole)
        whole.total.backward()
    ratio = float(doubled.total.detach() / whole.total.detach())
    _require(
        model,
        abs(ratio - 0.5) <= TOLERANCE,
        f"the loss with twice the counts is {ratio:.3g} of the loss, but must be half of it: divide sums by `counts`",
    )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            what = "no gradient" if parameter.grad is None else "a gradient that is not finite"
            _require(
                model,
                parameter.grad is not None and bool(parameter.grad.isfinite().all()),
                f"parameter {name.removeprefix('network.')} gets {what}; use it in the loss, or set its requires_grad "
                "to False",
            )


def _check_terms(model: Recogniser, loss: Losses) -> None:
    wanted = len(model.decoder.placement) + 1
    given = tuple(loss.per_classifier.shape)
    _require(
        model,
        given == (wanted,),
        f"the loss's per_classifier has shape {given}, but must have one term of each of the {wanted} classifiers",
    )
    for name in ("total", "ctc", "attention", "inter_ctc"):
        term = getattr(loss, name)
        _require(
            model, term.shape == () and bool(term.isfinite()), f"the loss's {name} is {term}, but must be finite, ()"
        )


def _require_shape(model: Recogniser, name: str, given: Tensor, wanted: tuple[int, ...]) -> None:
    _require(model, tuple(given.shape) == wanted, f"{name} gave shape {tuple(given.shape)}, but must give {wanted}")


def _require(model: Recogniser, holds: bool, fault: str) -> None:
    if not holds:
        raise UserError(f"custom_model.factory {model.recipe.custom_model.factory}: {fault}")


@contextlib.contextmanager
def _naming(model: Recogniser, name: str) -> Iterator[None]:
    """What the network raises in the block is a UserError that names the method."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise UserError(
            f"custom_model.factory {model.recipe.custom_model.factory}: {name} raised {type(error).__name__} "
            f"({message}) on a batch of two utterances; correct it"
        ) from error
