from __future__ import annotations

import pytest
import torch
from torch import nn

from model.training.moving_average import average_state, update_average


@pytest.mark.parametrize("decay", [0.2, 0.999])
def test_the_average_is_that_of_the_recursion_and_its_first_steps_count_less_of_the_past(decay: float) -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimiser = torch.optim.AdamW([model.weight], lr=0.1)
    frozen = model.bias.clone()
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for step in range(1, 13):
        model(torch.randn(4, 3)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
        update_average(optimiser, decay, step)
        past = 0.0 if step == 1 else min(decay, (1 + step) / (10 + step))
        expected = past * expected + (1 - past) * model.weight.detach().double()
    state = average_state(model, optimiser)
    torch.testing.assert_close(state["weight"].double(), expected, atol=1e-6, rtol=1e-5)
    assert not torch.equal(state["weight"], model.weight)
    assert torch.equal(state["bias"], frozen), "what is not trained is as it is"
