"""The check of a user's network: each promise that it breaks is one line that says which."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_model import Toy

from model.errors import UserError
from model.network.checking import check_custom_model, check_model
from model.network.losses import Counts, Losses
from model.network.making import count_parameters, make_model
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe

TINY = named_recipe("tiny", "corpus")
AUXILIARY = {"placement": [1, 3], "weights": [0.2, 0.2]}


def recipe_of(factory: str = "toy_model:make", **values: Any) -> Recipe:
    given = {"custom_model.factory": factory, "loss.auxiliary": AUXILIARY, "tokenizer.vocabulary": 24}
    return with_values(TINY, given | values)


@pytest.fixture
def define(tmp_path: Path) -> Callable[[str], Recipe]:
    """A recipe whose network is a Toy with methods of a source text, in a module of its own."""

    def make(body: str) -> Recipe:
        name = f"broken_{tmp_path.name.replace('-', '_')}"
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        text = (
            f"import torch\nfrom dataclasses import replace\nfrom toy_model import Toy\n\nclass Broken(Toy):\n{lines}"
        )
        (tmp_path / f"{name}.py").write_text(f"{text}\ndef make(recipe):\n    return Broken(recipe, 8)\n")
        return recipe_of(f"{name}:make", **{"custom_model.path": str(tmp_path)})

    return make


BROKEN = {
    "return super().encode(features, lengths)[0][0], lengths // 4": (
        "encode(self, features, lengths)",
        r"encode gave states \(\d+, 8\) and lengths \(2,\) of torch.int64, but must give \(B, S, D\) and whole numbers",
    ),
    "return super().encode(features, lengths)[0], lengths // 8": (
        "encode(self, features, lengths)",
        "encode gave 20 states for 160 frames, in 40 of the batch, but must give about 39, one for every 4 frames",
    ),
    "return super().ctc(states)[..., 1:]": (
        "ctc(self, states)",
        r"ctc gave shape \(2, 40, 24\), but must give \(2, 40, 25\)",
    ),
    "raise KeyError('memory')": (
        "prepare_memory(self, states, lengths)",
        r"prepare_memory raised KeyError \('memory'\) on a batch of two utterances; correct it",
    ),
    "return super().classify(tokens, memory)[1:]": (
        "classify(self, tokens, memory)",
        "classify gave logits of 2 classifiers, but must give 3: those of loss.auxiliary.placement and the final one",
    ),
    "return [scores[:, 1:] for scores in super().classify(tokens, memory)]": (
        "classify(self, tokens, memory)",
        r"classify gave shape \(2, 5, 24\), but must give \(2, 6, 24\)",
    ),
    "return super().classify(tokens, memory if memory is not None else 1 / 0)": (
        "classify(self, tokens, memory)",
        r"classify without memory raised ZeroDivisionError \(division by zero\)",
    ),
    "logits, after = super().step(tokens, memory, state); return logits[::-1], after": (
        "step(self, tokens, memory, state)",
        "the logits that step gives for token 1 differ from those of classify by up to",
    ),
    "logits, after = super().step(tokens, memory, state); return logits, [part.flip(0) for part in after]": (
        "step(self, tokens, memory, state)",
        "the logits that step gives for token 3 differ from those of classify by up to",
    ),
    "return super().step(tokens, memory, None)": (
        "step(self, tokens, memory, state)",
        "the logits that step gives for token 2 differ from those of classify by up to",
    ),
}


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_promise_is_one_line_that_names_the_method(body: str, define: Callable[[str], Recipe]) -> None:
    signature, message = BROKEN[body]
    recipe = define(f"def {signature}:\n    {body}")
    with pytest.raises(UserError, match=rf"^custom_model\.factory \S+: {message}") as raised:
        check_custom_model(recipe)
    assert "\n" not in str(raised.value)


LOSS = "def loss(self, features, lengths, labels, counts):\n"
OWN_LOSS = {
    "per_classifier=2": "the loss's per_classifier has shape (2,), but must have one term of each of the 3 classifiers",
    "factor=float('inf')": "the loss's total is inf, but must be finite, ()",
    "by_counts=False": "the loss with twice the counts is 1 of the loss, but must be half of it: divide",
    "factor=1.0": "parameter encoder.weight_ih_l0 gets no gradient; use it in the loss, or set its requires_grad",
}
MAKE_LOSSES = """
def losses(self, features, counts, per_classifier=3, factor=1.0, by_counts=True):
    from model.network.losses import Losses
    total = self.subsample(features.transpose(1, 2)).square().sum() * factor
    total = total / counts.tokens if by_counts else total
    return Losses(total, total, total, total.expand(per_classifier), torch.zeros(()))
"""


@pytest.mark.parametrize("fault", OWN_LOSS)
def test_a_loss_of_ones_own_is_checked_too(fault: str, define: Callable[[str], Recipe]) -> None:
    recipe = define(f"{MAKE_LOSSES}\n{LOSS}    return self.losses(features, counts, {fault})")
    with pytest.raises(UserError, match=rf"^custom_model\.factory \S+: {re.escape(OWN_LOSS[fault])}"):
        check_custom_model(recipe)


def test_a_schedule_that_a_loss_of_ones_own_would_not_follow_is_refused(define: Callable[[str], Recipe]) -> None:
    recipe = define(f"{MAKE_LOSSES}\n{LOSS}    return self.losses(features, counts)")
    message = r"Broken computes its loss itself, so that loss\.schedule would change nothing; leave out loss\.schedule"
    with pytest.raises(UserError, match=message):
        make_model(with_values(recipe, {"loss.schedule.auxiliary": 0.0}))


def test_a_loss_of_ones_own_replaces_the_decred_loss(define: Callable[[str], Recipe]) -> None:
    frozen = "def __init__(self, recipe, width):\n    super().__init__(recipe, width)\n"
    frozen += "    self.requires_grad_(False)\n    self.subsample.requires_grad_(True)\n"
    model = make_model(define(f"{frozen}{MAKE_LOSSES}\n{LOSS}    return self.losses(features, counts)"))
    check_model(model)
    features, labels = torch.randn(1, 40, 80), torch.tensor([[5, 1]])
    loss: Losses = model(features, torch.tensor([40]), labels, Counts(1, 2))
    assert loss.total == model.network.losses(features, Counts(1, 2)).total  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("placement", [(), (2,), (1, 3)])
def test_a_network_that_keeps_its_promises_is_left_as_it_was(placement: tuple[int, ...]) -> None:
    weights = [0.2] * len(placement)
    model = make_model(recipe_of(**{"loss.auxiliary": {"placement": placement, "weights": weights}}))
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    check_model(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model.decoder.mixing is None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_projects_own_model_keeps_them_too() -> None:
    check_model(make_model(with_values(TINY, {"loss.auxiliary": AUXILIARY})))


def test_the_loss_of_a_network_without_one_is_the_decred_loss() -> None:
    recipe = recipe_of(**{"loss.ctc_weight": 0.25})
    model = make_model(recipe).eval()
    labels = torch.tensor([[7, 9, 1], [8, 1, -100]])
    loss = model.loss(torch.randn(2, 60, 80), torch.tensor([60, 44]), labels)
    attention = 0.2 * loss.per_classifier[0] + 0.2 * loss.per_classifier[1] + 0.6 * loss.per_classifier[2]
    torch.testing.assert_close(loss.attention, attention)
    torch.testing.assert_close(loss.total, 0.25 * loss.ctc + 0.75 * attention)


def test_parameters_are_counted_without_memory() -> None:
    network = Toy(recipe_of(), width=32)
    assert count_parameters(recipe_of()) == sum(parameter.numel() for parameter in network.parameters())
    assert count_parameters(recipe_of(**{"custom_model.settings": {"width": 16}})) < count_parameters(recipe_of())
