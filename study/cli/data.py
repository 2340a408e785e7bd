"""The commands on corpora and files: the schema of study files, and `prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.arguments import example

if TYPE_CHECKING:
    from model.corpora.corpus import Corpus

app = typer.Typer()
prepare_app = typer.Typer(
    help="Make a corpus: the demo, spoken by Espeak NG, or your own recordings.",
    epilog=example("decred-study prepare demo"),
    no_args_is_help=True,
)
DATA = "Data and files"


@app.command(rich_help_panel=DATA, epilog=example("decred-study schema -o study.schema.json"))
def schema(
    out: Annotated[Path | None, typer.Option("-o", "--out", help="a file; without it, standard output")] = None,
) -> None:
    """Write the JSON schema of study files, so that editors complete and check them."""
    from model.strict import write_atomically
    from study.config.study_file import make_json_schema

    if out is None:
        typer.echo(make_json_schema(), nl=False)
    else:
        write_atomically(out, make_json_schema())
        typer.echo(f"{out} written")


@prepare_app.command("demo", epilog=example("decred-study prepare demo --out corpora/demo --train-utterances 200"))
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


@prepare_app.command("table", epilog=example("decred-study prepare table prompts.tsv --out corpora/prompts"))
def prepare_table(
    table: Annotated[Path, typer.Argument(metavar="FILE.tsv", help="columns audio and text; optional: speaker, set")],
    out: Annotated[Path, typer.Option(help="folder of the corpus to make")],
    name: Annotated[str | None, typer.Option(help="name of the corpus; by default the table's")] = None,
    normaliser: Annotated[str, typer.Option(help="how text is written: basic or none")] = "basic",
    seed: Annotated[int, typer.Option(help="of the split into train, dev and test, where the table names no sets")] = 0,
) -> None:
    """Make a corpus of your own recordings from a table."""
    from model.corpora import table as tables

    prepared = tables.prepare_table(table, out, name=name, normaliser=normaliser, seed=seed)
    for line in prepared.skipped.lines():
        typer.echo(line)
    _report_corpus(prepared.corpus)


app.add_typer(prepare_app, name="prepare", rich_help_panel=DATA)


def _report_corpus(corpus: Corpus) -> None:
    listed = ", ".join(f"{name} {info.utterances}" for name, info in corpus.sets.items())
    typer.echo(f"corpus in {corpus.folder}: {listed} utterances")
