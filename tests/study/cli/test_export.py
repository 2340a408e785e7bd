"""What `export` writes where, and options that contradict one another."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.errors import UserError
from study.cli.export import _choose_form
from study.cli.main import app


def test_best_and_bundle_are_short_for_a_format_and_a_place() -> None:
    assert _choose_form("recipe", None, Path("m"), None) == ("model", Path("m"))
    assert _choose_form("recipe", None, None, Path("s.zip")) == ("bundle", Path("s.zip"))
    assert _choose_form("optuna", Path("x"), None, None) == ("optuna", Path("x"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--best", "m", "-o", "x"], "export was given --best and another option that says what to write"),
        (["--best", "m", "--bundle", "s.zip"], "export was given --best and another option that says what to write"),
        (["--bundle", "s.zip", "--format", "onnx"], "export was given --bundle and another option"),
        (["--bundle", "s.zip", "--trial", "3"], "--trial 3 with --format bundle, which takes all trials; leave it out"),
        (["--format", "optuna", "--trial", "3"], "--trial 3 with --format optuna, which takes all trials"),
        (["--register", "m", "--format", "onnx"], "--register m with another format; give --best DIR, or neither"),
        (["--register", "m", "-o", "x"], "--register m with another format; give --best DIR, or neither"),
        (["--license", "mit"], "--license or --language, but --format recipe has no card for it; leave it out"),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_read(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["export", "nowhere.yaml", *options])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
