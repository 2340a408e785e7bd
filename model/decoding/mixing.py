"""Mixing of the classifiers in decoding (arXiv 2508.08938): weights learned after training, all else frozen.

The weights lie in a file beside the checkpoint that they were learned on, and are used only where a user asks for it.
Shapes: N classifiers, the final one last; B utterances, U tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from model.data.batches import Batch
from model.errors import UserError
from model.network.decoder import mix_logits
from model.network.losses import cross_entropy_sum
from model.network.recogniser import Recogniser, shift_right
from model.strict import write_atomically

MIXING_FILE = "mixing.safetensors"
Batches = Callable[[int], Iterable[Batch]]  # the batches of an epoch, from 0


def learn_mixing(
    model: Recogniser, batches: Batches, per_token: bool = False, epochs: int = 3, rate: float = 0.02
) -> Tensor:
    """Weights (N,), or (N, V) `per_token`, that minimise the cross-entropy of the mixed logits over `batches(epoch)`.

    Adam on the teacher-forced loss, starting from the final classifier alone. Returned are the best of the weights at
    the start and after each epoch, by cross-entropy on `batches(0)`, so that it never rises. Equal batches give equal
    weights. A model without auxiliary classifiers is a UserError.
    """
    classifiers = len(model.decoder.placement) + 1
    if classifiers == 1:
        raise UserError("mixing: the model has no auxiliary classifier to mix; train it with loss.auxiliary.placement")
    weights = final_classifier_only(classifiers, model.vocabulary if per_token else None)
    weights = weights.to(model.device).requires_grad_()
    optimiser = torch.optim.Adam([weights], lr=rate)
    model.eval()
    best, lowest = weights.detach().clone(), cross_entropy(model, weights, batches(0))
    for epoch in range(epochs):
        for batch in batches(epoch):
            nll, tokens = _nll(model, weights, batch)
            optimiser.zero_grad()
            (nll / max(tokens, 1)).backward()
            optimiser.step()
        reached = cross_entropy(model, weights, batches(0))
        if reached < lowest:
            best, lowest = weights.detach().clone(), reached
    return best


def final_classifier_only(classifiers: int, vocabulary: int | None = None) -> Tensor:
    """The weights (N,), or (N, V), that change nothing: 1 for the final classifier, 0 for the others."""
    weights = torch.zeros(classifiers) if vocabulary is None else torch.zeros(classifiers, vocabulary)
    weights[-1] = 1.0
    return weights


@torch.no_grad()
def cross_entropy(model: Recogniser, weights: Tensor, batches: Iterable[Batch]) -> float:
    """Mean cross-entropy of the mixed logits given the audio, in nats a token."""
    sums = [(float(nll), tokens) for nll, tokens in (_nll(model, weights, batch) for batch in batches)]
    return sum(nll for nll, _ in sums) / max(sum(tokens for _, tokens in sums), 1)


def _nll(model: Recogniser, weights: Tensor, batch: Batch) -> tuple[Tensor, int]:
    """Summed -log p of a batch's tokens, (), and their number; gradients reach the weights alone."""
    batch, labels = batch.to(weights.device), batch.labels.to(weights.device)
    with torch.no_grad():
        encoded = model.encode(batch.features, batch.lengths)
        logits = model.classify(encoded, shift_right(labels, model.special))
    return cross_entropy_sum(mix_logits(logits, weights), labels, 0.0), int((labels >= 0).sum())


def save_mixing(weights: Tensor, folder: Path) -> Path:
    """Write the weights into a checkpoint's folder; returns the file."""
    write_atomically(folder / MIXING_FILE, save({"weights": weights.detach().cpu().contiguous()}))
    return folder / MIXING_FILE


def load_mixing(model: Recogniser, folder: Path) -> None:
    """Set the model's mixing weights from a checkpoint's folder; a missing or unfit file is a UserError."""
    path = folder / MIXING_FILE
    if not path.is_file():
        raise UserError(f"{path}: is missing; learn the weights first, with `mix`")
    try:
        weights = load_file(path)["weights"]
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{path}: holds no mixing weights ({' '.join(str(error).split())}); learn them again") from None
    classifiers, vocabulary = len(model.decoder.placement) + 1, model.vocabulary
    if tuple(weights.shape) not in ((classifiers,), (classifiers, vocabulary)):
        raise UserError(
            f"{path}: weights have shape {tuple(weights.shape)}, but the model needs ({classifiers},) or "
            f"({classifiers}, {vocabulary}); learn them again"
        )
    model.decoder.mixing = weights.to(model.device)
