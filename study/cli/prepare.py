"""`decred-study prepare`: corpora from the demo's synthesiser, and from what users have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.arguments import example

if TYPE_CHECKING:
    from model.corpora.corpus import Corpus
    from model.corpora.source import Source

app = typer.Typer(
    help="Make a corpus: the demo, spoken by Espeak NG, or your own recordings.",
    epilog=example("decred-study prepare demo", "decred-study prepare table prompts.tsv --out corpora/prompts"),
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option(help="folder of the corpus to make")]
Name = Annotated[str | None, typer.Option(help="name of the corpus; by default the source's")]
Normaliser = Annotated[str, typer.Option(help="how text is written: basic, whisper-english or none")]
Seed = Annotated[int, typer.Option(help="of the division into train, dev and test, where the source names no sets")]
Copy = Annotated[bool, typer.Option("--copy/--no-copy", help="keep 16 kHz mono copies, or leave the audio where it is")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=ROLE", help="train, dev, test, dev:out, test:out or none; repeatable"),
]
RuleOptions = Annotated[
    list[str] | None,
    typer.Option("--rule", metavar="CHECK=RULE", help="drop, keep or fatal for what a check finds; repeatable"),
]
Jobs = Annotated[int, typer.Option(min=0, help="processes; 0 for one a core")]


@app.command("demo", epilog=example("decred-study prepare demo --out corpora/demo --train-utterances 200"))
def prepare_demo(
    out: Annotated[Path, typer.Option(help="folder of the corpus")] = Path("corpora/demo"),
    seed: Annotated[int, typer.Option(help="of the random choices; equal seeds give equal bytes")] = 0,
    train_utterances: Annotated[int | None, typer.Option(min=1, help="instead of the demo's own size")] = None,
    dev_utterances: Annotated[int | None, typer.Option(min=1, help="instead of the demo's own size")] = None,
    test_utterances: Annotated[int | None, typer.Option(min=1, help="of each of the three test sets")] = None,
) -> None:
    """Make the demo corpus with the speech synthesiser Espeak NG (extra `demo`)."""
    from model.corpora.demo.build import make_demo

    sizes = {
        "train_utterances": train_utterances,
        "dev_utterances": dev_utterances,
        "test_utterances": test_utterances,
    }
    chosen = {name: size for name, size in sizes.items() if size is not None}
    _report_corpus(make_demo(out, seed=seed, **chosen))


@app.command("table", epilog=example("decred-study prepare table prompts.tsv --out corpora/prompts"))
def prepare_table(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.tsv", help="columns audio and text; optional: speaker, set, start, end, channel, id"
        ),
    ],
    out: Out,
    name: Name = None,
    normaliser: Normaliser = "basic",
    seed: Seed = 0,
    copy: Copy = True,
    sets: Sets = None,
    rules: RuleOptions = None,
    jobs: Jobs = 0,
) -> None:
    """Make a corpus of your own recordings from a table, a row an utterance."""
    from model.corpora.sources.table import read_table

    _prepare(read_table(table), out, name, normaliser, seed, copy, sets, rules, jobs)


def _prepare(
    source: Source,
    out: Path,
    name: str | None,
    normaliser: str,
    seed: int,
    copy: bool,
    sets: list[str] | None,
    rules: list[str] | None,
    jobs: int,
) -> None:
    from model.corpora.findings import parse_rules
    from model.corpora.preparation import FINDINGS_FILE, Preparation, prepare_corpus
    from model.corpora.processes import run_in_processes
    from model.corpora.sets import parse_kinds
    from study.display.progress import show_progress

    settings = Preparation(name, normaliser, seed, copy, parse_kinds(sets or []), parse_rules(rules or []))
    jobs = jobs or os.cpu_count() or 1
    with show_progress("utterances checked") as progress:
        prepared = prepare_corpus(
            source, out, settings, lambda function, parts: run_in_processes(function, parts, jobs), progress
        )
    for line in prepared.lines:
        typer.echo(line)
    if prepared.lines:
        typer.echo(f"all of them are listed in {prepared.corpus.folder / FINDINGS_FILE}")
    _report_corpus(prepared.corpus)


def _report_corpus(corpus: Corpus) -> None:
    listed = ", ".join(f"{name} {info.utterances}" for name, info in corpus.sets.items())
    typer.echo(f"corpus in {corpus.folder}: {listed} utterances")
