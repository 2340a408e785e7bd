"""The command `errors`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from study.cli.arguments import On, example, run_where_it_is

app = typer.Typer()


@app.command(
    rich_help_panel="Studies",
    epilog=example(
        "decred-study errors search_spaces/demo.yaml",
        "decred-study errors studies/demo --trial 0 --trial 3 --set test-in -o two-trials.html",
        "decred-study errors runs/first other-system.trn --normaliser basic",
        "decred-study errors studies/demo --format sys -o demo.sys",
    ),
)
def errors(
    systems: Annotated[
        list[Path],
        typer.Argument(
            metavar="SYSTEM...",
            help="study files or folders of studies, folders of trials or runs, or files with hypotheses "
            "(.jsonl, .trn, .ctm)",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="what to write; by default errors.FORMAT, of trn a folder")
    ] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="only this set; several times for several")] = None,
    trials: Annotated[
        list[int] | None, typer.Option("--trial", help="these trials of the study; several times for several")
    ] = None,
    form: Annotated[
        Literal["html", "csv", "json", "pra", "sys", "dtl", "trn"],
        typer.Option("--format", help="a page, tables, everything as JSON, or one of the forms of NIST's sclite"),
    ] = "html",
    audio: Annotated[
        Literal["link", "embed", "none"],
        typer.Option(help="play it where it lies, put it inside the page, or leave it out"),
    ] = "link",
    corpus: Annotated[
        Path | None, typer.Option(help="where lengths and audio are, instead of the corpus of the first run")
    ] = None,
    normaliser: Annotated[
        str, typer.Option(help="that references and hypotheses are brought to first: none, basic or whisper-english")
    ] = "none",
    reference: Annotated[
        Path | None, typer.Option(help="references by utterance (.trn), where the files have none")
    ] = None,
    on: On = None,
) -> None:
    """Show what systems got wrong, word by word: a page that sorts, searches, counts and plays, or a table of it.

    Of a study it is the best trial; once finalists are confirmed, a training of each class's best one, both with the
    same seed.
    """
    from study.errors.gathering import gather
    from study.errors.output import usual_name, write_errors
    from study.errors.systems import find_systems

    out = out or usual_name(form)
    if on is not None:
        words = ["errors", "STUDY", "--format", form, "--audio", audio, "--normaliser", normaliser, "-o", "OUT"]
        words += [word for name in sets or [] for word in ("--set", name)]
        words += [word for number in trials or [] for word in ("--trial", str(number))]
        found = run_where_it_is(on, _choose_study(systems, corpus, reference), words, out)
        if found is None:
            typer.echo(f"{out} written")
            return
        systems = [found]
    content = gather(find_systems(systems, trials or []), normaliser, reference, sets or [], corpus)
    title = ", ".join(path.stem or str(path) for path in systems)
    written = write_errors(content, form, out, title, audio)
    for note in content.notes:
        typer.echo(note, err=True)
    typer.echo(f"{written} written")


def _choose_study(systems: list[Path], corpus: Path | None, reference: Path | None) -> Path:
    """The one study that is asked for where it is; a UserError where files of this machine are named beside it."""
    from model.errors import UserError

    if len(systems) > 1 or corpus is not None or reference is not None:
        raise UserError("--on takes one study that is there, without --corpus and --reference; leave the others out")
    return systems[0]
