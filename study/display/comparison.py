"""Two systems compared, as a table and a sentence for each set."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from study.verdict.comparison import LEVEL, Comparison

CLAIM = 0.05  # the chance of claiming a difference where there is none, over all sets
REMARK = (
    "These tests are of the two models at hand, each trained once. Another seed is another model: what configurations "
    "differ by is shown by several seeds of each."
)
COLUMNS = ("set", "WER A", "WER B", f"A - B, {100 * LEVEL:.0f} %", "pairs", "sign", "Wilcoxon", "McNemar")


def make_table(comparisons: Sequence[Comparison]) -> Table:
    """A row a set: WERs, the difference and its interval in percent, p of each test (matched pairs first)."""
    table = Table(*COLUMNS, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for compared in comparisons:
        low, high = compared.interval
        difference = f"{compared.difference:.1f} \\[{low:.1f}, {high:.1f}]"
        tests = (compared.matched_pairs, compared.sign, compared.wilcoxon, compared.mcnemar)
        rates = f"{compared.first_wer:.2f}", f"{compared.second_wer:.2f}"
        table.add_row(compared.set_name, *rates, difference, *(f"{p:.3f}" for p in tests))
    return table


def describe(compared: Comparison) -> str:
    """What is shown on a set, in a sentence."""
    low, high = compared.interval
    where = f" on {compared.set_name}" if compared.set_name else ""
    where += f" ({compared.words} words)"
    interval = f"[{low:.1f}, {high:.1f}] over {compared.blocks}"
    if compared.holm >= CLAIM:
        return (
            f"no difference shown{where}: A - B is {compared.difference:.1f} points {interval}, p {compared.holm:.2f}"
        )
    better, size = ("A", -compared.difference) if compared.difference < 0 else ("B", compared.difference)
    if better == "A":
        interval = f"[{-high:.1f}, {-low:.1f}] over {compared.blocks}"
    return f"{better} is lower by {size:.1f} points {interval}{where}, p {compared.holm:.2g}"
