"""One of the processes that `train` starts: `python -m model.commands.worker RECIPE.yaml FOLDER SECONDS`."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


def main() -> None:
    """Train a recipe that is prepared, as one rank of the group."""
    from model.commands.train import train_prepared
    from model.recipe.files import read_recipe
    from model.runtime.rank import run_rank

    recipe, folder, stall_seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

    def work() -> None:
        try:
            train_prepared(read_recipe(recipe), folder, stall_seconds)
        except typer.Exit as end:
            sys.exit(end.exit_code)

    run_rank(work, folder)


if __name__ == "__main__":
    main()
