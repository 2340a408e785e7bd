"""The command `compare`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from study.cli.arguments import example

app = typer.Typer()


@app.command(
    rich_help_panel="Studies",
    epilog=example(
        "decred-study compare studies/demo/trials/0000 studies/demo/trials/0001",
        "decred-study compare runs/first/hypotheses/test-in.jsonl other-system.trn --normaliser basic",
    ),
)
def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C...]",
            help="folders of trials or runs, or files with hypotheses (.jsonl, .trn, .ctm); each is compared with A",
            show_default=False,
        ),
    ],
    normaliser: Annotated[
        str, typer.Option(help="that references and hypotheses are brought to first: none, basic or whisper-english")
    ] = "none",
    reference: Annotated[
        Path | None, typer.Option(help="references by utterance (.trn), where the files have none")
    ] = None,
    any_decoding: Annotated[
        bool, typer.Option("--any-decoding", help="also compare systems that were decoded in different ways")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Compare the hypotheses of two systems or more: WERs, the difference with its interval, and paired tests.

    The tests are those of NIST's sc_stats: matched pairs (MAPSSWE), sign, Wilcoxon and McNemar. p values are corrected
    for the number of sets by Holm's rule.
    """
    from model.errors import UserError

    if len(systems) < 2:
        raise UserError(f"compare was given {systems[0]} alone, but takes two systems or more; name another one")
    from rich.console import Console

    from study.display.comparison import REMARK, describe, make_table
    from study.verdict.comparison import compare_systems

    first, *others = systems
    console, found = Console(), []
    for other in others:
        comparisons = compare_systems(first, other, normaliser, reference, any_decoding)
        found.append({"a": str(first), "b": str(other), "sets": [asdict(compared) for compared in comparisons]})
        if not as_json:
            typer.echo(f"A {first}\nB {other}")
            console.print(make_table(comparisons))
            typer.echo("\n".join(describe(compared) for compared in comparisons))
    typer.echo(json.dumps(found, indent=1) if as_json else REMARK)
