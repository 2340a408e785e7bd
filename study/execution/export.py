"""What `export` writes: the recipe of a trial, its trained model in the published layout, or all trials for Optuna.

Its model with all that belongs to it is written by model_export.py, a whole study by bundle.py. Torch and Optuna take
seconds to import, and a recipe needs neither.
"""

from __future__ import annotations

from pathlib import Path

from model.strict import to_yaml, write_atomically
from study.display.card import make_card, make_header
from study.ledger.best import choose_trial, export_recipe
from study.ledger.ledger import RECIPE, Ledger

CARD = "README.md"  # where Hugging Face looks for it


def write_recipe(ledger: Ledger, trial: int | None, out: Path) -> str:
    """Write the recipe of a trial, of the best one by default; the line that reports it."""
    recipe, number = export_recipe(ledger, trial)
    write_atomically(out, make_header(ledger.trials, ledger.study.name, number) + to_yaml(recipe))
    return f"trial {number:04d}, recipe {recipe.hash}, written to {out}"


def write_model(ledger: Ledger, trial: int | None, out: Path) -> str:
    """Write the trained model of a trial, of the best one by default, with a card; the line that reports it."""
    number = choose_trial(ledger, trial).number
    line = write_run_model(ledger.trial_folder(number), out)
    write_atomically(out / CARD, make_card(ledger.trials, ledger.study.name, number))
    return line


def write_run_model(run: Path, out: Path) -> str:
    """Write the trained model of a run's folder; the line that reports it."""
    from model.weights.import_export import export_published

    return f"{run}, recipe {export_published(run, out).hash}, written to {out} in the published layout"


def write_onnx(ledger: Ledger, trial: int | None, out: Path) -> str:
    """Write the trained model of a trial, of the best one by default, as ONNX graphs; the lines that report it."""
    return write_run_onnx(ledger.trial_folder(choose_trial(ledger, trial).number), out)


def write_run_onnx(run: Path, out: Path) -> str:
    """The same of the model in a run's folder or in a model folder."""
    from model.api import load_run
    from model.network.making import refuse_custom
    from model.onnx.export import export_onnx
    from model.recipe.files import read_recipe

    if (run / RECIPE).is_file():
        refuse_custom(read_recipe(run / RECIPE), "ONNX", "export it as a model folder")  # before any code of it is run
    loaded = load_run(run)
    check = export_onnx(loaded.model.cpu(), loaded.require_tokenizer().content, run.resolve().name, out)
    return f"{run}, recipe {loaded.recipe.hash}, written to {out} as ONNX\n{check}"


def write_optuna_study(ledger: Ledger, out: Path) -> str:
    """Write the trials as an Optuna study into an SQLite file; the line that reports it."""
    from study.search.optuna_trials import export_database

    count = export_database(ledger, out)
    return f"{count} trials written to {out} as Optuna study '{ledger.study.name}'"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a single run, or a model folder, and not of a study."""
    return any((folder / name).exists() for name in ("checkpoints", "chosen", "chosen.json"))
