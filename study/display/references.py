"""Published figures of the test sets that a study scored, where its corpus has some."""

from __future__ import annotations

from rich.console import Console

from model.commands.formatting import format_references
from study.ledger.ledger import Ledger


def print_references(ledger: Ledger, console: Console) -> None:
    """Print a line for each test set that any trial was scored on and that has published figures."""
    metrics = {name for record in ledger.trials.values() for name in record.final_metrics}
    scored = {name.split("/")[1] for name in metrics if name.startswith("test/")}
    references = ledger.manifest.get("references") or {}
    for line in format_references({name: references[name] for name in references if name in scored}):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
