"""`transcribe`: recordings as text, subtitles or tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from model.commands.decoding_options import IlmWeight, LmFile, LmWeight, TrustCode, language_model_keys
from model.errors import UserError

if TYPE_CHECKING:
    from model.transcription.recordings import Recording
    from model.transcription.subtitles import Layout
    from model.transcription.transcriber import Transcriber
    from model.transcription.transcript import Transcript

STANDARD_INPUT = "-"
Format = Literal["txt", "srt", "vtt", "tsv", "json", "all"]
# Options of whisper's command line are taken with underscores, too.
SETTINGS: dict[str, Any] = {"token_normalize_func": lambda name: name.replace("_", "-")}


def transcribe(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="folder of a run, a trial, an exported or a published model", show_default=False
        ),
    ],
    audio: Annotated[
        list[str], typer.Argument(metavar="AUDIO...", help="audio files; - is standard input", show_default=False)
    ],
    output_dir: Annotated[Path | None, typer.Option("-o", "--output-dir", help="folder of the files")] = None,
    output_format: Annotated[
        Format | None, typer.Option("-f", "--output-format", help="write files, instead of printing the text")
    ] = None,
    beam: Annotated[
        int | None, typer.Option("--beam", "--beam-size", min=1, help="hypotheses kept for a piece, not the model's")
    ] = None,
    ctc_weight: Annotated[float | None, typer.Option(help="weight of CTC in decoding, not the model's")] = None,
    length_penalty: Annotated[float | None, typer.Option(help="as in the recipe's decoding, not the model's")] = None,
    lm: LmFile = None,
    lm_weight: LmWeight = None,
    ilm_weight: IlmWeight = None,
    word_timestamps: Annotated[bool, typer.Option("--word-timestamps", help="words with their times in JSON")] = False,
    highlight_words: Annotated[
        bool, typer.Option("--highlight-words", help="underline each word in subtitles while it is spoken")
    ] = False,
    max_line_width: Annotated[int | None, typer.Option(min=1, help="characters in a line of subtitles")] = None,
    max_line_count: Annotated[int | None, typer.Option(min=1, help="lines in a subtitle")] = None,
    max_words_per_line: Annotated[int | None, typer.Option(min=1, help="words in a subtitle")] = None,
    channel: Annotated[int | None, typer.Option(min=0, help="of each recording, from 0; without it all mixed")] = None,
    longest: Annotated[
        float | None,
        typer.Option("--longest", help="seconds; cut what is longer  [default: the longest training utterance]"),
    ] = None,
    pause: Annotated[float, typer.Option(help="seconds; cut at silences that are as long")] = 0.5,
    padding: Annotated[float, typer.Option(min=0.0, help="seconds of silence kept around speech")] = 0.03,
    tokenizer: Annotated[
        Path | None, typer.Option(help="the SentencePiece model of a published checkpoint that has none")
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Transcribe recordings of any length, format and rate.

    The text is printed, or written to files named as the recordings. What cannot be read is named, the rest is
    transcribed, and the exit code is 1. Options that whisper's command line has may be written with underscores.
    """
    from dataclasses import replace

    from model.api import load_transcriber
    from model.runtime.memory import keep_freed_memory
    from model.transcription.subtitles import Layout

    files = plan_files(audio, output_dir, output_format)
    layout = Layout(max_line_width, max_line_count, max_words_per_line, highlight_words)
    keep_freed_memory()
    changes = {"beam": beam, "ctc_weight": ctc_weight, "length_penalty": length_penalty}
    decoding = {key: value for key, value in changes.items() if value is not None}
    decoding |= language_model_keys(lm, lm_weight, ilm_weight)
    transcriber = load_transcriber(folder, tokenizer, decoding, trust_code=trust_code)
    cutting = replace(transcriber.cutting, longest=longest or transcriber.cutting.longest, pause=pause, padding=padding)
    write = partial(write_transcript, layout=layout, with_words=word_timestamps, is_only=len(audio) == 1)
    if not transcribe_files(replace(transcriber, cutting=cutting), audio, channel, files, write):
        raise typer.Exit(1)


def plan_files(audio: Sequence[str], folder: Path | None, chosen: Format | None) -> list[list[Path]]:
    """The files that the transcript of each recording is written to; none where it is printed.

    Raises a UserError where two recordings would be written to the same file.
    """
    if chosen is None and folder is None:
        return [[] for _ in audio]
    endings = get_args(Format)[:-1] if chosen == "all" else [chosen or "txt"]
    stems = ["stdin" if one == STANDARD_INPUT else Path(one).stem for one in audio]
    for place, stem in enumerate(stems):
        if stem in stems[:place]:
            raise UserError(
                f"{audio[stems.index(stem)]} and {audio[place]} would both be written to {stem}.{endings[0]}; "
                "transcribe them one by one, with another --output-dir"
            )
    return [[(folder or Path()) / f"{stem}.{ending}" for ending in endings] for stem in stems]


def transcribe_files(
    transcriber: Transcriber,
    audio: Sequence[str],
    channel: int | None,
    files: Sequence[Sequence[Path]],
    write: Callable[[Transcript, str, Sequence[Path]], None],
) -> bool:
    """Transcribe recordings and write each as soon as it is done; whether all of them could be read."""
    names = ["standard input" if one == STANDARD_INPUT else one for one in audio]
    recordings: Iterator[Recording] = (sys.stdin.buffer.read() if one == STANDARD_INPUT else one for one in audio)
    began, seconds, failures = time.monotonic(), 0.0, 0
    with show_progress(audio) as advance:
        transcripts = transcriber.transcribe_all(recordings, None, channel, names, advance)
        for name, transcript, paths in zip(names, transcripts, files, strict=True):
            if isinstance(transcript, UserError):
                typer.echo(f"error: {transcript}", err=True)
                failures += 1
            else:
                write(transcript, name, paths)
                seconds += transcript.seconds
    typer.echo(format_summary(len(names) - failures, failures, seconds, time.monotonic() - began), err=True)
    return failures == 0


def write_transcript(
    transcript: Transcript, name: str, paths: Sequence[Path], layout: Layout, with_words: bool, is_only: bool
) -> None:
    """Write a transcript to its files, each in the format of its ending; without files print its text.

    The only recording's text is printed in a line for each segment, of others each in a line that begins with its name.
    """
    from model.strict import make_folders, write_atomically
    from model.transcription.formats import format_transcript

    if not paths:
        text = format_transcript(transcript, "txt") if is_only else f"{name}: {transcript.text}\n"
        typer.echo(text, nl=False)
    for path in paths:
        make_folders(path.parent)
        write_atomically(path, format_transcript(transcript, path.suffix[1:], layout, with_words))


def format_summary(done: int, failures: int, seconds: float, wall: float) -> str:
    """How much was transcribed, and the real-time factor: seconds of work for each second of audio."""
    factor = f", RTF {wall / seconds:.4f}" if seconds else ""
    failed = f"; {failures} could not be read" if failures else ""
    return f"{done} recording{'' if done == 1 else 's'}, {seconds:.1f} s of audio in {wall:.1f} s{factor}{failed}"


@contextmanager
def show_progress(audio: Sequence[str]) -> Iterator[Callable[[float], None]]:
    """A function of seconds of audio that are done, shown as a bar on the error stream where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from model.transcription.recordings import measure_seconds

    is_shown = sys.stderr.isatty()
    total = measure_seconds(one for one in audio if one != STANDARD_INPUT) if is_shown else None
    columns = TextColumn("transcribing"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not is_shown, transient=True) as bar:
        task = bar.add_task("transcribing", total=total or None)
        yield lambda seconds: bar.advance(task, seconds)
