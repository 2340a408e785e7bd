from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.commands.app import COMMANDS, main, make_app
from model.errors import NonFiniteLossError, OutOfMemoryError, ReadersLostError
from model.strict import to_yaml
from model.training import loop

NOT_THE_MODEL_S = ("ray", "mlflow", "optuna", "sqlalchemy", "study", "cluster")  # what only studies need
RUN_COMMANDS = f"""
import runpy, sys
for name in {NOT_THE_MODEL_S}:
    sys.modules[name] = None
for command in sys.argv[1].split(" ; "):
    sys.argv[1:] = command.split()
    try:
        runpy.run_module("model", run_name="__main__")
    except SystemExit as end:
        assert not end.code, command
"""


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `python -m model` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["python -m model", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('model', run_name='__main__')\n"
        "finally: print([name for name in ('torch', 'lhotse', 'pydantic') if name in sys.modules])"
    )
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in asked.stdout for command in COMMANDS)
    assert asked.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("program", ["python -m model", "decred-study"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_ends_with_an_example_of_its_program(command: str, program: str) -> None:
    help_text = CliRunner().invoke(make_app(program), [command, "--help"], env={"COLUMNS": "200"}).output.strip()
    assert help_text.splitlines()[-1].strip() == f"$ {program} {COMMANDS[command][1]}"
    assert COMMANDS[command][1].startswith(f"{command} ")


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["train", "nowhere.yaml"], "error: nowhere.yaml: cannot be read"),
        (["evaluate", "nowhere"], "error: nowhere: holds no checkpoint; give the folder of a training run"),
        (["mix", "nowhere"], "error: nowhere: holds no checkpoint; give the folder of a training run"),
        (["import", "nowhere"], "error: nowhere/config.json: cannot be read"),
        (["trian"], "error: No such command 'trian'. Did you mean 'train'?"),
        (["train"], "error: Missing argument 'RECIPE.yaml'"),
        (["evaluate", "x", "--beam", "0"], "error: Invalid value for '--beam'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    typed: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *typed) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message)
    assert printed.count("\n") == 1


def test_no_command_shows_the_help_and_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch) == 2
    printed = capsys.readouterr()
    assert "Usage: python -m model" in printed.out + printed.err


@pytest.mark.parametrize(
    ("error", "code"),
    [(NonFiniteLossError("loss nan"), 1), (OutOfMemoryError("out of memory"), 1), (KeyboardInterrupt(), 130)],
)
def test_a_training_that_breaks_is_exit_code_1_and_one_that_is_interrupted_130(
    make_recipe, monkeypatch, capsys, tmp_path: Path, error: BaseException, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(loop, "train_epoch", fail)
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe()))
    assert run_main(monkeypatch, "train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")) == code
    assert capsys.readouterr().err == (f"error: {error}\n" if code == 1 else "")


def test_a_training_whose_readers_are_lost_is_exit_code_1_and_a_line_with_what_to_do(
    make_recipe, monkeypatch, capsys, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise ReadersLostError("readers were lost; lower data.readers")

    monkeypatch.setattr(loop, "train_epoch", fail)
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe()))
    assert run_main(monkeypatch, "train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")) == 1
    assert capsys.readouterr().err == (
        "error: readers were lost; lower data.readers, then start the same command again, which continues from the "
        "last checkpoint\n"
    )


def test_a_recipe_is_trained_and_scored_where_only_the_model_is_installed(make_recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(make_recipe({"training.epochs": 1})))
    commands = "train recipe.yaml --out run ; evaluate run"
    command, environment = [sys.executable, "-c", RUN_COMMANDS, commands], os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    printed = done.stdout.splitlines()
    assert printed[0].startswith("recipe tiny ")
    assert printed[1].startswith("epoch 1/1  loss ")
    scored = [line for line in printed if line.startswith("out_of_domain: WER")]
    assert len(scored) == 2
    assert scored[0] == scored[1], "the last epoch's report and evaluate have the same figures"
    evaluated = [line.partition(": WER")[0] for line in printed if ": WER" in line]
    assert {"dev", "dev/dev", "dev/dev-ood-text", "dev/dev-ood-voice", "test/test-in"} <= set(evaluated)
