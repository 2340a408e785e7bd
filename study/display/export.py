"""What `export` writes: the recipe of a trial, or its trained model in the published layout."""

from __future__ import annotations

from pathlib import Path

from model.strict import to_yaml, write_atomically
from model.weights.exchange import export_published
from study.display.table import export_recipe
from study.ledger.ledger import Ledger


def write_recipe(ledger: Ledger, trial: int | None, out: Path) -> str:
    """Write the recipe of a trial, of the best one by default; the line that reports it."""
    recipe, number = export_recipe(ledger, trial)
    write_atomically(out, to_yaml(recipe))
    return f"trial {number:04d}, recipe {recipe.hash}, written to {out}"


def export_model(ledger: Ledger, trial: int | None, out: Path) -> str:
    """Write the trained model of a trial, of the best one by default; the line that reports it."""
    return export_run(ledger.trial_folder(export_recipe(ledger, trial)[1]), out)


def export_run(run: Path, out: Path) -> str:
    """Write the trained model of a run's folder; the line that reports it."""
    return f"{run}, recipe {export_published(run, out).hash}, written to {out} in the published layout"


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a single run, and not of a study."""
    return (folder / "checkpoints").is_dir()
