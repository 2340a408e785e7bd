"""What leaves a study: `export` writes a recipe, a model or the whole record; `reproduce` trains a model again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from model.commands.decoding_options import TrustCode
from model.errors import UserError
from study.cli.arguments import AnyStudy, On, example, open_ledger, run_where_it_is

app = typer.Typer()
STUDIES = "Studies"
USUAL = {"recipe": "best-recipe.yaml", "model": "best-model", "published": "best-model", "onnx": "best-onnx"}
ENDINGS = {"optuna": ".db", "bundle": ".zip"}  # behind the study's name

Form = Literal["recipe", "model", "published", "onnx", "optuna", "bundle"]


@app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study export search_spaces/demo.yaml -o best-recipe.yaml",
        "decred-study export search_spaces/demo.yaml --best best-model --license apache-2.0",
        "decred-study export studies/demo --trial 4 --format published -o published-model",
        "decred-study export studies/demo --bundle demo.zip",
        "decred-study export studies/demo --register demo-asr",
    ),
)
def export(
    study: AnyStudy,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="what to write; by default best-recipe.yaml, best-model, best-onnx or STUDY.*"
        ),
    ] = None,
    trial: Annotated[int | None, typer.Option(help="this trial instead of the best one")] = None,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="the recipe alone; the trained model with tokenizer, decoding and card, in the published layout, or "
            "as ONNX; all trials for Optuna; or the study's whole record",
        ),
    ] = "recipe",
    best: Annotated[
        Path | None, typer.Option("--best", metavar="DIR", help="the same as --format model -o DIR", show_default=False)
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE.zip",
            help="the same as --format bundle -o FILE.zip (or .tar.gz): the ledger, figures and versions without "
            "weights, audio, texts and paths, for the appendix of a paper",
            show_default=False,
        ),
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", help="of the weights, for the model's card, such as apache-2.0", show_default=False),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="of the speech, for the model's card, such as en", show_default=False)
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            "--register",
            metavar="NAME",
            help="make the model a version of this registered model of MLflow's, with the alias `best`",
            show_default=False,
        ),
    ] = None,
    on: On = None,
) -> None:
    """Write the best recipe of a study, ready for `decred-study train`, its best model, or the study's whole record.

    With --format model, published and onnx, STUDY may also be the folder of a single run. With --format optuna it
    becomes an ordinary study in an SQLite file, for optuna-dashboard and `optuna.load_study`.
    """
    form, out = _choose_form(form, out, best, bundle)
    if register is not None:
        _register(study, trial, out, form, register, license_, language, on)
        return
    if form in ("optuna", "bundle") and trial is not None:
        raise UserError(f"export was given --trial {trial} with --format {form}, which takes all trials; leave it out")
    if form != "model" and (license_ or language):
        raise UserError(
            f"export was given --license or --language, but --format {form} has no card for it; leave it out"
        )
    if out is None and (on is not None or form in USUAL):
        out = Path(USUAL.get(form) or study.stem + ENDINGS[form])
    words = ["export", "STUDY", "--format", form, "-o", "OUT", *_list_options(trial, license_, language)]
    found = run_where_it_is(on, study, words, out if on is not None else None)
    if found is None:
        typer.echo(f"{out} written")
        return
    typer.echo(_write(form, found, trial, out, license_, language))


def _register(
    study: Path,
    trial: int | None,
    out: Path | None,
    form: Form,
    name: str,
    license_: str | None,
    language: str | None,
    on: str | None,
) -> None:
    """Register the model where the study is, and write it only where a folder for it was named."""
    if form not in ("recipe", "model") or (form == "recipe" and out is not None):
        raise UserError(f"export was given --register {name} with another format; give --best DIR, or neither")
    words = ["export", "STUDY", "--register", name, *(["--best", "OUT"] if out is not None else [])]
    found = run_where_it_is(
        on, study, words + _list_options(trial, license_, language), out if on is not None else None
    )
    if found is None:
        return
    from study.execution.model_export import export_model, register_trial

    ledger = open_ledger(found)
    if out is not None:
        typer.echo(export_model(ledger, trial, out, license_, language))
    typer.echo(register_trial(ledger, trial, name, out))


def _list_options(trial: int | None, license_: str | None, language: str | None) -> list[str]:
    options = {"--trial": trial, "--license": license_, "--language": language}
    return [part for name, value in options.items() if value is not None for part in (name, str(value))]


def _choose_form(form: Form, out: Path | None, best: Path | None, bundle: Path | None) -> tuple[Form, Path | None]:
    """The form and where it goes; --best and --bundle are short for both."""
    given = [name for name, value in (("--best", best), ("--bundle", bundle)) if value is not None]
    if given and (len(given) > 1 or out is not None or form != "recipe"):
        raise UserError(f"export was given {given[0]} and another option that says what to write; give one of them")
    if best is not None:
        return "model", best
    return ("bundle", bundle) if bundle is not None else (form, out)


def _write(
    form: Form, study: Path, trial: int | None, out: Path | None, license_: str | None, language: str | None
) -> str:
    """Write it; the line that reports it."""
    from study.execution import export

    if out is not None and form in ("model", "published", "onnx") and export.is_run(study):
        return _write_run(form, study, out, license_, language)
    ledger = open_ledger(study)
    out = out or Path(ledger.study.name + ENDINGS[form])
    if form == "recipe":
        return export.write_recipe(ledger, trial, out)
    if form == "model":
        from study.execution.model_export import export_model

        return export_model(ledger, trial, out, license_, language)
    if form == "published":
        return export.write_model(ledger, trial, out)
    if form == "onnx":
        return export.write_onnx(ledger, trial, out)
    if form == "optuna":
        return export.write_optuna_study(ledger, out)
    from study.execution.bundle import write_bundle

    return write_bundle(ledger, out)


def _write_run(form: Form, run: Path, out: Path, license_: str | None, language: str | None) -> str:
    from study.execution import export

    if form == "model":
        from study.execution.model_export import export_run

        return export_run(run, out, license_, language)
    return export.write_run_onnx(run, out) if form == "onnx" else export.write_run_model(run, out)


@app.command(
    rich_help_panel=STUDIES,
    epilog=example(
        "decred-study reproduce best-model",
        "decred-study reproduce best-model --corpus corpora/demo --seeds 3",
    ),
)
def reproduce(
    folder: Annotated[
        Path, typer.Argument(metavar="MODEL", help="a folder that `export --best` wrote", show_default=False)
    ],
    corpus: Annotated[
        Path | None, typer.Option(help="where its corpus is, instead of where its recipe says", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of the trainings; by default runs/MODEL-again", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="trainings: the model's own seed first, then others")] = 1,
    trust_code: TrustCode = False,
) -> None:
    """Train an exported model again, and say whether it gets the same figures, exactly or within chance over seeds.

    Trains without Ray, with the workers that the study had, and continues trainings that were stopped. Exit code 0
    where the figures are the same, 1 where they are not.
    """
    from study.execution.reproduce import reproduce_model

    place = out or Path("runs") / f"{folder.resolve().name}-again"
    found = reproduce_model(folder, corpus, place, seeds, typer.echo, trust_code)
    raise typer.Exit(0 if found.is_same else 1)
