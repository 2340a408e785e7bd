"""`export --bundle`: the whole record of a study in one archive, for the appendix of a paper.

It has everything that the study's figures are computed from, and none of its weights, audio, texts and places. Unpacked
it is a study's folder, which `status`, `report` and Python read. The same study gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from model.errors import UserError
from model.strict import to_yaml, write_atomically
from study.execution.anonymous import Anonymiser
from study.ledger.ledger import BASE_RECIPE, MANIFEST, RECIPE, STUDY, Ledger
from study.ledger.manifest import find_version
from study.report.content import make_report
from study.report.writing import REPORT, render
from study.verdict.study_verdict import make_verdict
from study.verdict.words import describe_verdict

ENDINGS = (".zip", ".tar.gz", ".tgz")
BEST = "best-recipe.yaml"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a ZIP file can state
_README = """# The record of the study {name}

{verdict}

| file | what |
|---|---|
| `study.yaml`, `base_recipe.yaml` | the study as it ran, and the recipe that every trial started from |
| `events/` | the ledger: every event of every trial, a line each |
| `manifest.json`, `versions.txt` | packages, git commit, hardware, seeds, hashes of corpus, tokenizer and normaliser |
| `trials/NNNN/recipe.yaml` | everything that this training needed; the ledger has its hash |
| `trials/NNNN/initialisation.json` | what it took of other weights, where it started from some |
| `trials/NNNN/decoding.json` | the decodings that were tried, with their edits |
| `trials/NNNN/chosen/chosen.json` | which epochs' weights were chosen |
| `trials/NNNN/hypotheses/` | of each scored utterance the edits [S, D, I, N] in words and characters, and likelihoods |
| `report.html`, `best-recipe.yaml` | the report of these files; the best recipe, where the study had one |

Left out: weights, audio, and the texts of references and hypotheses, which may not be free. Paths are shortened to
their last part, `.../demo`; machines and speakers have numbers. Identifiers of utterances are those of the corpus.

Unpacked, this is the folder of a study: `decred-study status {name}` prints its table and verdict, and
`study.open_study("{name}")` reads it in Python. Written by decred-study {version}.
"""


def write_bundle(ledger: Ledger, out: Path) -> str:
    """Write the record of a study to an archive; the line that reports it."""
    if not out.name.endswith(ENDINGS):
        raise UserError(f"{out}: is no name for a bundle; let it end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    files = dict(sorted(_list_files(ledger)))
    write_atomically(out, _make_zip(files) if out.suffix == ".zip" else _make_tar(files))
    size = sum(map(len, files.values()))
    return f"{len(files)} files of study '{ledger.study.name}', {size / 1e6:.1f} MB, written to {out}"


def _list_files(ledger: Ledger) -> Iterator[tuple[str, bytes]]:
    """Names in the archive, and contents."""
    records = dict(_list_records(ledger, Anonymiser(ledger)))
    for name, content in (*records.items(), (REPORT, _make_report(records)), ("README.md", _describe(ledger))):
        yield f"{ledger.study.name}/{name}", content.encode()


def _list_records(ledger: Ledger, anonymiser: Anonymiser) -> Iterator[tuple[str, str]]:
    folder = ledger.folder
    yield from _list_events(ledger, anonymiser)
    changes = {"tracking": anonymiser.clean_uri(ledger.study.tracking), "notify": None}
    study = ledger.study.model_copy(update=changes)
    yield STUDY, anonymiser.clean(to_yaml(study))
    yield BASE_RECIPE, anonymiser.clean((folder / BASE_RECIPE).read_text(encoding="utf-8"))
    manifest = anonymiser.clean_json(ledger.manifest)
    yield MANIFEST, json.dumps(manifest, indent=2) + "\n"
    packages = {"python": manifest.get("python", "unknown")} | manifest.get("packages", {})
    yield "versions.txt", "".join(f"{name}=={version}\n" for name, version in packages.items())
    if (folder / BEST).is_file():
        yield BEST, anonymiser.clean((folder / BEST).read_text(encoding="utf-8"))
    for number in ledger.trials:
        for path, content in _list_trial(ledger.trial_folder(number), anonymiser):
            yield f"trials/{number:04d}/{path}", content


def _make_report(records: Mapping[str, str]) -> str:
    """The report of what the bundle has, so that it names nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in records.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        page = render([make_report(Ledger.open(Path(folder).resolve()))], "html")
        # Recipes are read with their paths relative to where they lie.
        return re.sub(rf"{re.escape(str(Path(folder).resolve()))}/(trials/\d+/)?", "", page)


def _list_events(ledger: Ledger, anonymiser: Anonymiser) -> Iterator[tuple[str, str]]:
    """The event files; their headers seal what the files before them have here."""
    lengths: dict[str, int] = {}
    for path, lines in ledger.log.read_lines().items():
        events = [anonymiser.clean_json(json.loads(line)) for line in lines]
        for event in events[:1]:
            if event.get("sealed"):
                event["sealed"] = {name: lengths[name] for name in event["sealed"] if name in lengths}
        text = "".join(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n" for event in events)
        lengths[path.name] = len(text.encode())
        yield path.relative_to(ledger.folder).as_posix(), text


def _list_trial(folder: Path, anonymiser: Anonymiser) -> Iterator[tuple[str, str]]:
    """What a trial left that is no weight."""
    names = (RECIPE, "initialisation.json", "decoding.json", "chosen/chosen.json")
    for pattern in (*names, "error-*.txt", "hypotheses/*.settings.json"):
        for path in sorted(folder.glob(pattern)):
            yield path.relative_to(folder).as_posix(), anonymiser.clean(path.read_text(encoding="utf-8"))
    for path in sorted(folder.glob("hypotheses/*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield path.relative_to(folder).as_posix(), "".join(anonymiser.clean_utterance(line) + "\n" for line in lines)


def _describe(ledger: Ledger) -> str:
    verdict = make_verdict(ledger.trials)
    lines = describe_verdict(verdict) if verdict is not None else ["The study gives no verdict."]
    return _README.format(name=ledger.study.name, verdict="\n".join(lines), version=find_version())


def _make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _make_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)
