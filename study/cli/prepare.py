"""`decred-study prepare`: corpora from the demo's synthesiser, and from what users have."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from model.errors import UserError
from model.runtime.hang_watch import STALL_SECONDS, Work, end_hanging
from study.cli.arguments import example

if TYPE_CHECKING:
    from model.corpora.corpus import Corpus
    from model.corpora.source import Source

app = typer.Typer(
    help="Make a corpus: the demo, spoken by Espeak NG, your own recordings, or a corpus in a usual form.",
    epilog=example(
        "decred-study prepare demo",
        "decred-study prepare table prompts.tsv --out corpora/prompts",
        "decred-study prepare lhotse librispeech LibriSpeech --out corpora/librispeech",
    ),
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
Address = Annotated[
    str | None,
    typer.Option(help="the head of a running Ray cluster, HOST:PORT, whose machines share the work and the paths"),
]

StallSeconds = Annotated[
    float, typer.Option(min=0.0, help="seconds without progress after which the command ends; 0 for no limit")
]
WaitSeconds = Annotated[float, typer.Option(min=1.0, help="seconds for a CPU of that cluster to be free")]


@app.command("demo", epilog=example("decred-study prepare demo --out corpora/demo --train-utterances 200"))
def prepare_demo(
    out: Annotated[Path, typer.Option(help="folder of the corpus")] = Path("corpora/demo"),
    seed: Annotated[int, typer.Option(help="of the random choices; equal seeds give equal bytes")] = 0,
    train_utterances: Annotated[int | None, typer.Option(min=1, help="instead of the demo's own size")] = None,
    dev_utterances: Annotated[int | None, typer.Option(min=1, help="instead of the demo's own size")] = None,
    test_utterances: Annotated[int | None, typer.Option(min=1, help="of each of the three test sets")] = None,
    stall_seconds: StallSeconds = STALL_SECONDS,
) -> None:
    """Make the demo corpus with the speech synthesiser Espeak NG (extra `demo`)."""
    from model.corpora.demo.build import make_demo

    sizes = {
        "train_utterances": train_utterances,
        "dev_utterances": dev_utterances,
        "test_utterances": test_utterances,
    }
    chosen = {name: size for name, size in sizes.items() if size is not None}
    with _end_hanging("the preparation of the demo", stall_seconds):
        corpus = make_demo(out, seed=seed, **chosen)
    _report_corpus(corpus)


def _prepare(
    source: Source,
    out: Out,
    name: Name = None,
    normaliser: Normaliser = "basic",
    seed: Seed = 0,
    copy: Copy = True,
    sets: Sets = None,
    rules: RuleOptions = None,
    jobs: Jobs = 0,
    address: Address = None,
    wait_seconds: WaitSeconds = 600.0,
    stall_seconds: StallSeconds = STALL_SECONDS,
) -> None:
    from cluster.errors import ClusterError
    from cluster.tasks import run_on_cluster
    from model.corpora.findings import parse_rules
    from model.corpora.preparation import FINDINGS_FILE, Preparation, RunParts, prepare_corpus
    from model.corpora.sets import parse_kinds
    from model.runtime.processes import run_in_processes
    from study.display.progress import show_progress
    from study.execution.signals import handle_stop_signals

    settings = Preparation(name, normaliser, seed, copy, parse_kinds(sets or []), parse_rules(rules or []))
    run_parts: RunParts = (
        partial(run_in_processes, jobs=jobs or os.cpu_count() or 1)
        if address is None
        else partial(run_on_cluster, address=address, wait_seconds=wait_seconds)
    )
    try:
        waits = 0.0 if address is None else wait_seconds
        hanging = _end_hanging("the preparation of the corpus", stall_seconds and stall_seconds + waits)
        with handle_stop_signals(), hanging, show_progress("utterances checked") as progress:
            prepared = prepare_corpus(source, out, settings, run_parts, progress)
    except ClusterError as error:
        raise UserError(str(error)) from None
    except KeyboardInterrupt:
        typer.echo("stopped; start the same command again, and it goes on where it was", err=True)
        raise
    for line in prepared.lines:
        typer.echo(line)
    if prepared.lines:
        typer.echo(f"all of them are listed in {prepared.corpus.folder / FINDINGS_FILE}")
    _report_corpus(prepared.corpus)


def _end_hanging(what: str, seconds: float, goes_on: bool = False) -> AbstractContextManager[None]:
    """What `seconds` without progress end, none where they are 0."""
    return end_hanging(Work(what, "--stall-seconds", goes_on=goes_on), seconds or None)


def _command(name: str, *examples: str) -> Callable[[Callable[..., Source]], Callable[..., Source]]:
    """Make a function that reads a source a command, which prepares it: it has the options of `_prepare` too."""

    def register(read: Callable[..., Source]) -> Callable[..., Source]:
        own, shared = _parameters(read), _parameters(_prepare)
        del shared["source"]

        def command(**given: Any) -> None:
            try:
                with _end_hanging("reading the source", given["stall_seconds"], goes_on=True):
                    source = read(**{name: value for name, value in given.items() if name in own})
            except OSError as error:  # such as a name that is too long, or a folder that may not be entered
                raise UserError(f"{error.filename}: cannot be read ({error.strerror}); give another path") from None
            _prepare(source, **{name: value for name, value in given.items() if name in shared})

        parameters = {**{name: one for name, one in own.items() if name not in shared}, **shared}
        command.__doc__ = read.__doc__
        command.__annotations__ = {name: one.annotation for name, one in parameters.items()}
        command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        app.command(name, epilog=example(*examples))(command)
        return read

    return register


def _parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    """The parameters, all to be given by name, so that one without a default may follow one that has it."""
    imported_for_types = {"Source": object}
    parameters = inspect.signature(function, eval_str=True, locals=imported_for_types).parameters
    return {name: one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, one in parameters.items()}


@_command("table", "decred-study prepare table prompts.tsv --out corpora/prompts")
def _read_table(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.tsv", help="columns audio and text; optional: speaker, set, start, end, channel, id"
        ),
    ],
) -> Source:
    """Make a corpus of your own recordings from a table, a row an utterance."""
    from model.corpora.sources.table import read_table

    return read_table(table)


@_command("kaldi", "decred-study prepare kaldi data/train data/dev data/test --out corpora/calls")
def _read_kaldi(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR", help="data folders, each a set of that name", show_default=False)
    ],
) -> Source:
    """Make a corpus of Kaldi data folders. No command in a wav.scp is run: such recordings are left out."""
    from model.corpora.sources.kaldi import read_kaldi

    return read_kaldi(folders)


@_command(
    "lhotse",
    "decred-study prepare lhotse librispeech LibriSpeech --out corpora/librispeech",
    "decred-study prepare lhotse commonvoice cv-corpus-21.0 --option languages=en --out corpora/cv",
)
def _read_lhotse(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="as in lhotse.recipes.prepare_RECIPE")],
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="the corpus as it is published", show_default=False)
    ],
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="another parameter of the recipe; repeatable"),
    ] = None,
    jobs: Jobs = 0,
) -> Source:
    """Make a corpus of one of the many that lhotse has a recipe for. Nothing is downloaded."""
    from model.corpora.sources.lhotse_recipe import parse_options, read_lhotse_recipe

    return read_lhotse_recipe(recipe, folders, parse_options(options or []), jobs or os.cpu_count() or 1)


@_command(
    "manifest",
    "decred-study prepare manifest data/manifests --out corpora/mine",
    "decred-study prepare manifest cuts_train.jsonl.gz cuts_dev.jsonl.gz --out corpora/mine",
)
def _read_manifests(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="manifests, or folders of them: cuts; recordings and supervisions; Shar",
            show_default=False,
        ),
    ],
) -> Source:
    """Make a corpus of lhotse manifests, each a set that is named after its file."""
    from model.corpora.sources.manifest import read_manifests

    return read_manifests(paths)


@_command("hf", "decred-study prepare hf saved/minds14 --text transcription --out corpora/minds14")
def _read_hugging_face(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="a dataset saved with save_to_disk", show_default=False)
    ],
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="with the text; by default sentence, text, transcription, ...")
    ] = None,
    audio: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="with the audio; by default the only one of that type")
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="with the speaker; by default speaker_id, client_id or speaker"),
    ] = None,
) -> Source:
    """Make a corpus of a dataset of Hugging Face, each split a set."""
    from model.corpora.sources.hugging_face import read_hugging_face

    return read_hugging_face(folder, text, audio, speaker)


@app.command("mix", epilog=example("decred-study prepare mix mix.yaml --out corpora/mix"))
def prepare_mix(
    file: Annotated[Path, typer.Argument(metavar="MIX.yaml", help="the corpora, and what is taken of each")],
    out: Out,
) -> None:
    """Make one corpus of several, which stay where they are: roles, weights, caps and dev slices of each."""
    from model.corpora.mix import mix_corpora

    _report_corpus(mix_corpora(file, out))


def _report_corpus(corpus: Corpus) -> None:
    listed = ", ".join(f"{name} {info.utterances}" for name, info in corpus.sets.items())
    typer.echo(f"corpus in {corpus.folder}: {listed} utterances")
