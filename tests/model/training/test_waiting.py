"""What a training step does on a GPU, without one: torch's fake tensors have a device, and no data that could be read.

What reads a value or a shape of the device raises an error there, and each copy between host and device is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from model.network.kernels import ctc_loss
from model.network.losses import Counts, Losses
from model.network.recogniser import Recogniser
from model.recipe.training import OptimiserConfig
from model.training import optimiser as optimisation
from model.training.optimiser import make_optimiser, take_step

GPU = torch.device("cuda", 0)
VALUES = {
    "loss.auxiliary": {"placement": [1, 3], "weights": [0.2, 0.3]},
    "loss.inter_ctc": {"layers": [1, 2], "weight": 0.3},
    "encoder.layers": 3,
    "encoder.dropout": 0.1,
    "decoder.dropout": 0.1,
}


class Copies(TorchDispatchMode):
    """Refuses copies to the device that the host waits for, or that are not of the tensors `pinned`."""

    def __init__(self, *pinned: Tensor) -> None:
        super().__init__()
        self.pinned, self.count = {id(tensor) for tensor in pinned}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name, tensors = str(function), [one for one in args if isinstance(one, Tensor)]
        copies = name.startswith(("aten._to_copy", "aten.copy_", "aten.lift"))
        if copies and len({tensor.device.type for tensor in [*tensors, out]}) > 1:
            self.count += 1
            to_device = out.device.type == "cuda"
            assert (kwargs or {}).get("non_blocking"), f"{name} is a copy that the host waits for"
            assert not to_device or id(args[0]) in self.pinned, f"{name} copies from pageable memory"
        return out


@pytest.fixture
def fake() -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.fixture
def model(make_recipe, fake: None) -> Recogniser:
    recipe = make_recipe(VALUES)
    with GPU:
        return Recogniser(recipe).train()


def run_forward(model: Recogniser) -> tuple[Tensor, int]:
    """The loss of a batch whose features are on the device, lengths and labels in pinned memory; copies made."""
    features, lengths = torch.empty(2, 60, 80, device=GPU), torch.empty(2, dtype=torch.long)
    labels = torch.empty(2, 5, dtype=torch.long)
    with Copies(lengths, labels) as copies:
        total = model(features, lengths, labels, Counts(2, 8)).total
    return total, copies.count


@pytest.mark.parametrize("auxiliary_factor", [1.0, 0.5])
def test_the_loss_copies_lengths_and_labels_once_and_waits_for_nothing(
    model: Recogniser, auxiliary_factor: float
) -> None:
    model.auxiliary_factor = auxiliary_factor
    total, copies = run_forward(model)
    assert total.device == GPU
    assert copies == 2, "three CTC losses share what is made of the labels"


def test_the_step_waits_for_nothing(model: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def record(self) -> None:
            pass

    monkeypatch.setattr(optimisation.torch.cuda, "Event", Event)
    optimiser = make_optimiser(model, OptimiserConfig())
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    total, _ = run_forward(model)
    with Copies() as copies:
        result = take_step(model, [Losses(total, total, total, total[None], total)], optimiser, 1e-3, 1.0)
    assert copies.count == 1, "loss, norm and the request to stop, to the host"
    assert result.loss_and_norm.device.type == "cpu"


def by_torch(log_probs: Tensor, frames: Tensor, classes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    targets = ctc_loss.CtcTargets(classes, classes[:, :-1], lengths, lengths)
    return ctc_loss.torch_shares(log_probs, frames, targets)


def pageable(log_probs: Tensor, frames: Tensor, classes: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    index = torch.arange(3).to(log_probs.device, non_blocking=True)
    return log_probs.sum(dim=(1, 2)), log_probs[:, :, index], frames > 0


def blocking(log_probs: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return log_probs.sum(dim=(1, 2)) * torch.tensor([1.0, 2.0], device=log_probs.device), log_probs, log_probs


def reading(log_probs: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return log_probs.sum(dim=(1, 2)) * float(log_probs.sum()), log_probs, log_probs


def masking(log_probs: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return log_probs[log_probs > 0], log_probs, log_probs


FAULTS = {
    by_torch: "_local_scalar_dense",
    pageable: "copies from pageable memory",
    blocking: "is a copy that the host waits for",
    reading: "item|_local_scalar_dense",
    masking: "nonzero|Dynamic|dynamic",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_loss_that_waits_is_noticed(
    model: Recogniser, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(ctc_loss, "ctc_shares", fault)
    with pytest.raises((AssertionError, RuntimeError), match=FAULTS[fault]):
        run_forward(model)
