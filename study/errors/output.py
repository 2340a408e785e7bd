"""Writes the error browser's content in the form that is asked for: the page, a table, JSON, or one of NIST's forms."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from model.corpora.audio import AudioError, read_stretch
from model.corpora.source import AudioRef
from model.errors import UserError
from model.strict import write_atomically
from study.errors.browser import make_browser
from study.errors.content import Content
from study.errors.sclite import format_pra, write_trn
from study.errors.sclite_reports import format_dtl, format_sys
from study.errors.tables import dump_csv, dump_json

Form = Literal["html", "csv", "json", "pra", "sys", "dtl", "trn"]
Audio = Literal["link", "embed", "none"]
MOST_SECONDS = 900.0  # of audio inside a page: about 20 MB
REPORTS: dict[str, Callable[[Content, int], str]] = {"pra": format_pra, "sys": format_sys, "dtl": format_dtl}


def usual_name(form: Form) -> Path:
    """The file that is written where none is named; of trn a folder."""
    return Path("errors-trn" if form == "trn" else f"errors.{form}")


def write_errors(content: Content, form: Form, out: Path, title: str, audio: Audio = "link") -> Path:
    """Write the content to `out` and return it; trn is a folder, with the references and a file for each system.

    The reports of several systems follow one another in one file. Raises a UserError where it cannot be written.
    """
    assert form in get_args(Form)
    if not content.utterances:
        raise UserError("there is no utterance to show; give hypotheses of a set that has some")
    try:
        if form == "trn":
            _write_folder(out, write_trn(content))
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, _make_text(content, form, out, title, audio))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error}); give another -o") from None
    return out


def _make_text(content: Content, form: Form, out: Path, title: str, audio: Audio) -> str:
    if form == "html":
        return _make_page(content, out, title, audio)
    if form in REPORTS:
        return "".join(REPORTS[form](content, system) for system in range(len(content.systems)))
    return dump_json(content) if form == "json" else dump_csv(content)


def _make_page(content: Content, out: Path, title: str, audio: Audio) -> str:
    if audio == "embed":
        return make_browser(content, out, title, embed_audio(content))
    if audio == "none":
        content = replace(content, utterances=tuple(replace(one, audio=None) for one in content.utterances))
    return make_browser(content, out, title)


def _write_folder(out: Path, files: dict[str, str]) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, but trn files are written into a folder; give another -o")
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomically(out / name, text)


def embed_audio(content: Content) -> dict[int, str]:
    """The audio of each utterance, by index, as a data: URI of FLAC, all channels mixed.

    Raises a UserError where it is more than a page can hold, or cannot be read.
    """
    known = {index: one for index, one in enumerate(content.utterances) if one.audio is not None}
    seconds = sum(one.seconds or 0.0 for one in known.values())
    if seconds > MOST_SECONDS:
        raise UserError(
            f"--audio embed was given {seconds:.0f} s of audio, but a page holds at most {MOST_SECONDS:.0f} s; choose "
            "fewer utterances with --set, or leave the audio where it lies with --audio link"
        )
    if not known:
        raise UserError("--audio embed was given, but no utterance's audio is known; name the corpus with --corpus")
    return {index: _encode(one.id, one.audio) for index, one in known.items() if one.audio is not None}


def _encode(key: str, audio: AudioRef) -> str:
    import soundfile

    try:
        stretch = read_stretch(audio)
    except AudioError as error:
        raise UserError(f"{audio.file}: {error}, so {key} cannot be embedded; use --audio link") from None
    stream = io.BytesIO()
    soundfile.write(stream, stretch.samples.mean(axis=1), stretch.rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(stream.getvalue()).decode()
