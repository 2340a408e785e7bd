"""The page about models of one's own shows the toy that the tests train, and what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from model.network.making import METHODS
from model.network.protocol import CustomModel, HasLoss

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "model/docs/own-models.md").read_text(encoding="utf-8")


def test_its_example_is_the_network_that_is_trained_in_tests() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert block == (ROOT / "tests/toy_model.py").read_text(encoding="utf-8")
    assert len(block.splitlines()) <= 70


def test_it_lists_each_method_of_the_protocol_with_its_arguments() -> None:
    rows = re.findall(r"^\| `(\w+)\(([\w, ]+)\)`", PAGE, re.MULTILINE)
    methods = {name: getattr(CustomModel, name) for name in METHODS} | {"loss": HasLoss.loss}
    listed = [(name, ", ".join(list(method.__annotations__)[:-1])) for name, method in methods.items()]
    assert rows == listed
    assert {name for name in vars(CustomModel) if not name.startswith("_")} == set(METHODS)
