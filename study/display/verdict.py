"""The verdict's table: for every test set both classes' means over the seeds, the difference and its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from study.ledger.ledger import Ledger

if TYPE_CHECKING:
    from study.verdict.seed_effects import Judged
    from study.verdict.study_verdict import Verdict


def print_verdict(ledger: Ledger, console: Console) -> None:
    """What the study shows, as a table of effects and in words; nothing while no finalist is confirmed."""
    if ledger.trials.selection is None:  # without the imports below, which take a while
        return
    from study.verdict.models_at_hand import describe_models
    from study.verdict.seed_effects import FEWEST_SEEDS
    from study.verdict.study_verdict import make_verdict
    from study.verdict.words import describe_verdict

    verdict = make_verdict(ledger.trials)
    if verdict is None:
        return
    lines = describe_verdict(verdict)
    if len(verdict.seeds) < FEWEST_SEEDS:
        lines = [*describe_models(verdict, ledger.trial_folder), *lines]
    elif verdict.judged:
        console.print(make_table(verdict))
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def make_table(verdict: Verdict) -> Table:
    """A line for each figure of each test set; what is shown is bold."""
    from study.verdict.words import FIGURES

    first, second = verdict.classes
    table = Table(
        title=f"{first} against {second}, {len(verdict.seeds)} seeds each",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1),
    )
    table.add_column("test set")
    for column in (first, second, "difference", "95 %", "p corrected"):
        table.add_column(column, justify="right")
    for figure, judged in verdict.judged.items():
        _add_rows(table, FIGURES[figure][0], judged)
    return table


def _add_rows(table: Table, label: str, judged: Judged) -> None:
    for effect in judged.effects:
        low, high = effect.interval
        table.add_row(
            f"{effect.name} {label}",
            f"{effect.first:.2f}",
            f"{effect.second:.2f}",
            f"{effect.difference:+.2f}",
            f"[{low:.2f}, {high:.2f}]".replace("[", r"\["),
            f"{effect.corrected:.3f}",
            style="bold" if effect in judged.shown else None,
        )
