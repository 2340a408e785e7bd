"""Hypotheses of any system, to be compared: scored utterances of a run, trn or ctm files.

A run's files are JSON lines (model/evaluation/scoring.py). A trn file has a line `words (id)` for each utterance; a ctm
file a line `id channel start duration word [confidence]` for each word, where the id is the utterance's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.errors import UserError

SETTINGS = ("normaliser", "aligner", "decoding")
_TRN = re.compile(r"(.*)\(([^()\s]+)\)\s*$")


@dataclass(frozen=True)
class Hypothesis:
    """What a system has recognised in an utterance; reference and speaker are empty where the file has none."""

    text: str
    reference: str | None = None
    speaker: str = ""


@dataclass(frozen=True)
class HypothesisSet:
    """The hypotheses of a set by utterance, and how they were scored as far as that is known."""

    path: Path
    hypotheses: dict[str, Hypothesis]
    settings: dict[str, Any] = field(default_factory=dict)


def read_sets(path: Path) -> dict[str, HypothesisSet]:
    """The sets in a run's folder by name, or the one of a file; a UserError where there is none.

    Of a run these are its test sets, and where it has them the hypotheses that the chosen weights gave on its dev sets.
    """
    if not path.is_dir():
        return {"": read_hypotheses(path)}
    folder = path / "hypotheses" if (path / "hypotheses").is_dir() else path
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise UserError(f"{path}: holds no hypotheses (*.jsonl); give the folder of a trial or a run, or a file")
    names = {file.stem: file for file in files}
    names.pop("dev", None)  # of the last epoch, not of the chosen weights
    if "dev-final" in names:
        names["dev"] = names.pop("dev-final")
    if not names:
        raise UserError(f"{path}: its test sets were not scored; give a baseline or the best trial, or use `evaluate`")
    return {name: read_hypotheses(file) for name, file in sorted(names.items())}


def read_hypotheses(path: Path) -> HypothesisSet:
    """The hypotheses in a JSON lines, trn or ctm file; a UserError that names the line where one is malformed."""
    readers = {".jsonl": _read_json_lines, ".trn": _read_trn, ".ctm": _read_ctm}
    if path.suffix not in readers and not path.exists():
        raise UserError(f"{path}: does not exist; give the folder of a study, a trial or a run, or hypotheses")
    if path.suffix not in readers:
        raise UserError(f"{path}: hypotheses are read from .jsonl, .trn and .ctm files; give one, or a run's folder")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason}); give a file with hypotheses") from None
    hypotheses: dict[str, Hypothesis] = {}
    for number, key, hypothesis in readers[path.suffix](path, lines):
        if key in hypotheses:
            raise UserError(f"{path}: line {number} has utterance {key} a second time; keep one")
        hypotheses[key] = hypothesis
    if not hypotheses:
        raise UserError(f"{path}: holds no utterance; give a file with hypotheses")
    return HypothesisSet(path, hypotheses, _read_settings(path))


def _read_settings(path: Path) -> dict[str, Any]:
    beside = path.with_suffix(".settings.json")
    if not beside.is_file():
        return {}
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
        return {name: content[name] for name in SETTINGS if name in content}
    except (ValueError, TypeError) as error:
        raise UserError(f"{beside}: is damaged ({' '.join(str(error).split())}); restore it, or remove it") from None


Lines = Iterable[str]
Utterances = Iterator[tuple[int, str, Hypothesis]]  # with the number of the line


def _read_json_lines(path: Path, lines: Lines) -> Utterances:
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
            hypothesis = Hypothesis(content["hypothesis"], content.get("reference"), content.get("speaker", ""))
            yield number, content["id"], hypothesis
        except (ValueError, TypeError, LookupError, AttributeError):
            raise UserError(f"{path}: line {number} is no JSON object with `id` and `hypothesis`") from None


def _read_trn(path: Path, lines: Lines) -> Utterances:
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;"):
            continue
        match = _TRN.fullmatch(line)
        if not match:
            raise UserError(f"{path}: line {number} does not end in an utterance's id in brackets, `words (id)`")
        yield number, match[2], Hypothesis(" ".join(match[1].split()))


def _read_ctm(path: Path, lines: Lines) -> Utterances:
    words: dict[str, list[tuple[float, str]]] = {}
    last: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split()
        try:
            words.setdefault(fields[0], []).append((float(fields[2]), fields[4]))
        except (IndexError, ValueError):
            raise UserError(f"{path}: line {number} is not `id channel start duration word`") from None
        last[fields[0]] = number
    for key, found in words.items():
        yield last[key], key, Hypothesis(" ".join(word for _, word in sorted(found, key=lambda item: item[0])))
