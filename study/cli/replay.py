"""The command `replay`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from study.cli.arguments import example, open_ledger

app = typer.Typer()


@app.command(
    rich_help_panel="Studies",
    epilog=example(
        "decred-study replay studies/record",
        "decred-study replay studies/seed-0 studies/seed-1 --sampler tpe --rule asha --seeds 20",
    ),
)
def replay(
    studies: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY...",
            help="study files, folders of studies or packed records (.jsonl.gz) of one space, whose trials ran to "
            "their end; trials that differ in their seed alone are one configuration",
            show_default=False,
        ),
    ],
    sampler: Annotated[
        list[str] | None, typer.Option(help="random, tpe, ...; with --rule instead of the usual strategies")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="none, asha, asha-promote, ..., or top: the best fifth after one epoch")
    ] = None,
    grace_epochs: Annotated[int | None, typer.Option(min=1, help="first rung, instead of the study's")] = None,
    reduction: Annotated[int | None, typer.Option(min=2, help="of the rungs, instead of the study's")] = None,
    top_epoch: Annotated[int, typer.Option(min=1, help="the one epoch of the rule top")] = 1,
    seeds: Annotated[int, typer.Option(min=2, help="replays of each strategy")] = 50,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="trials at the same time, instead of the study's")
    ] = None,
    every_seed: Annotated[
        bool, typer.Option("--every-seed", help="a configuration may be tried once with each of its seeds")
    ] = False,
    half: Annotated[
        int | None, typer.Option(min=1, max=2, help="only every second configuration: choose by 1, report on 2")
    ] = None,
    within: Annotated[
        float,
        typer.Option(min=0.0, help="of the best figure: how near the target is to what random to the end reaches"),
    ] = 0.02,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Replay other strategies over studies that ran to their end: what would they have found, and when? Trains nothing.

    Every strategy goes through the real sampler and rule, on a clock by which each epoch takes what it took. A
    configuration is worth the mean of its other seeds, where it has them.
    """
    from rich.console import Console

    from study.display.board import make_console
    from study.display.replay import describe, make_tables, to_json
    from study.replay import table as tables
    from study.replay.comparison import compare_strategies
    from study.replay.recorded import is_packed, read_packed, record_ledger
    from study.replay.strategies import choose_strategies

    recorded = []
    for path in studies:
        recorded += read_packed(path) if is_packed(path) else [record_ledger(open_ledger(path))]
    table = tables.make_table(recorded)
    table = table if half is None else table.half(half - 1)
    strategies = choose_strategies(table.study, sampler, rule, grace_epochs, reduction, top_epoch)
    with Console(stderr=True).status("replaying") as status:
        compared = compare_strategies(table, strategies, seeds, concurrency, every_seed, within, status.update)
    if as_json:
        typer.echo(json.dumps(to_json(compared), indent=1))
        return
    console = make_console()
    console.print(*make_tables(compared))
    for line in describe(compared):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
