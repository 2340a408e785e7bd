"""Small sources that are good, to be spoilt by tests; `decred-study prepare` on them, and what its ends promise."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
import soundfile
from recordings import noise, write_noise

from model.corpora.corpus import Corpus, read_corpus
from model.corpora.findings import CHECKS
from model.corpora.preparation import FINDINGS_FILE
from study.cli import main as cli

SETS = {"train": 3, "dev": 1}  # utterances of each set of a good source
UTTERANCES = sum(SETS.values())
GOOD = {f"{name}-{number}": name for name, count in SETS.items() for number in range(count)}  # sets by id
AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROW_KINDS = {"audio": AUDIO, "sentence": pa.string(), "client_id": pa.string()}

Plant = Callable[[Path], object]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


def run_prepare(*arguments: object) -> Ended:
    """The command line in this process, with a single process for the checks."""
    out, err = io.StringIO(), io.StringIO()
    command, *rest = map(str, arguments)
    argv = ["decred-study", "prepare", command, "--jobs", "1", *rest]
    with (
        mock.patch.object(sys, "argv", argv),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        cli.main()
    lines = [line for line in re.findall(r"[^\n]*\n?", err.getvalue()) if "\r" not in line]  # bars of lhotse's have it
    return Ended(int(ended.value.code or 0), out.getvalue(), "".join(lines))


def assert_refused(ended: Ended, words: str) -> None:
    """One line says what is wrong."""
    assert (ended.code, ended.out) == (2, ""), ended
    assert re.fullmatch("error: .*\n", ended.err), ended
    assert re.search(words, ended.err), ended


def assert_prepared(ended: Ended, out: Path, utterances: int, found: Mapping[str, int]) -> Corpus:
    """Of so many utterances each is in the corpus or listed as left out, and each finding is counted and printed."""
    assert (ended.code, ended.err) == (0, ""), ended
    corpus = read_corpus(out)
    header, *rows = [line.split("\t") for line in (out / FINDINGS_FILE).read_text(encoding="utf-8").split("\n")[:-1]]
    assert header == ["check", "rule", "place", "detail"]
    assert {len(row) for row in rows} <= {len(header)}
    assert Counter(check for check, *_ in rows) == found, (rows, ended)
    *printed, last = ended.out.splitlines()
    assert last.startswith(f"corpus in {out}: ")
    if found:
        assert printed.pop() == f"all of them are listed in {out / FINDINGS_FILE}"
    counted = [re.fullmatch(r"(\d+) (?:left out|changed|kept): (.*) \(.*\) \[(.*)\]", line) for line in printed]
    assert {one[3]: (int(one[1]), one[2]) for one in counted if one} == {
        check: (count, CHECKS[check].meaning) for check, count in found.items()
    }, ended
    left_out = {place for _, rule, place, _ in rows if rule == "drop"}
    entries = [entry for name in corpus.sets for entry in corpus.entries(name)]
    assert len(entries) + len(left_out) == utterances, "an utterance was lost"
    assert all(len(corpus.read_samples(entry)) == entry.samples for entry in entries)
    assert sum(info.utterances for info in corpus.sets.values()) == len(entries)
    return corpus


def write_rows(folder: Path, *more: Mapping[str, str]) -> Path:
    """A table of good recordings, and of more rows."""
    rows: list[Mapping[str, str]] = []
    for seed, (id, set_name) in enumerate(GOOD.items()):
        write_noise(folder / f"{id}.wav", seed)
        rows.append({"audio": f"{id}.wav", "text": f"say {id}", "set": set_name, "id": id})
    rows += [{"text": "spoilt", "set": "train", "id": f"bad-{number}"} | row for number, row in enumerate(more)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["\t".join(columns), *("\t".join(row.get(column, "") for column in columns) for row in rows)]
    table = folder / "table.tsv"
    table.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return table


def write_kaldi(folder: Path) -> list[Path]:
    """Data folders, each with `segments` of one recording."""
    folders = []
    for seed, (name, count) in enumerate(SETS.items()):
        write_noise(folder / "audio" / f"{name}.wav", seed, 0.5 * count)
        ids = [f"{name}-{number}" for number in range(count)]
        files = {
            "wav.scp": [f"{name} {folder}/audio/{name}.wav"],
            "segments": [f"{id} {name} {number / 2} {number / 2 + 0.5}" for number, id in enumerate(ids)],
            "text": [f"{id} say {id}" for id in ids],
            "utt2spk": [f"{id} {name}-ann" for id in ids],
        }
        folders.append(folder / "data" / name)
        folders[-1].mkdir(parents=True)
        for file, lines in files.items():
            (folders[-1] / file).write_text("".join(f"{line}\n" for line in lines))
    return folders


def make_cut(audio: Path, id: str, **fields: Any) -> dict[str, Any]:
    """A cut of a whole recording of half a second, with its supervision."""
    recording = {
        "id": f"{id}-recording",
        "sources": [{"type": "file", "channels": [0], "source": str(audio)}],
        "sampling_rate": 16_000,
        "num_samples": 8000,
        "duration": 0.5,
        "channel_ids": [0],
    }
    supervision = {"id": f"{id}-s", "recording_id": recording["id"], "start": 0.0, "duration": 0.5, "channel": 0}
    cut = {"id": id, "start": 0.0, "duration": 0.5, "channel": 0, "recording": recording, "type": "MonoCut"}
    return {**cut, "supervisions": [{**supervision, "text": f"say {id}", "speaker": f"{id}-ann"}], **fields}


def write_lines(path: Path, items: Iterable[Any]) -> Path:
    """JSON lines, compressed where the name says so; an item may also be a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in items]
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_cuts(folder: Path, *more: Any) -> list[Path]:
    """Manifests of cuts of good recordings; what is added is in the first."""
    cuts: dict[str, list[Any]] = {name: [] for name in SETS}
    for seed, (id, set_name) in enumerate(GOOD.items()):
        write_noise(folder / "audio" / f"{id}.wav", seed)
        cuts[set_name].append(make_cut(folder / "audio" / f"{id}.wav", id))
    cuts["train"] += more
    return [write_lines(folder / f"cuts_{name}.jsonl", items) for name, items in cuts.items()]


def encode(seed: int) -> bytes:
    """A good recording as a WAV file."""
    content = io.BytesIO()
    soundfile.write(content, noise(seed), 16_000, format="WAV")
    return content.getvalue()


def write_shar(folder: Path, spoilt: Mapping[str, bytes] | None = None) -> list[Path]:
    """Shar folders, whose first may have more cuts: audio by id."""
    folders = []
    for name in SETS:
        members = {id: encode(seed) for seed, (id, set_name) in enumerate(GOOD.items()) if set_name == name}
        members |= (spoilt or {}) if name == "train" else {}
        folders.append(folder / name)
        write_lines(folders[-1] / "cuts.000000.jsonl.gz", [make_cut(Path("gone.wav"), id) for id in members])
        with tarfile.open(folders[-1] / "recording.000000.tar", "w") as archive:
            for id, content in members.items():
                member = tarfile.TarInfo(f"{id}.wav")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return folders


def make_row(seed: int, **fields: Any) -> dict[str, Any]:
    audio = {"bytes": encode(seed), "path": f"{seed}.wav"}
    return {"audio": audio, "sentence": f"say {seed}", "client_id": f"client {seed}", **fields}


def write_hugging_face(folder: Path, *more: Mapping[str, Any], kinds: Mapping[str, Any] = ROW_KINDS) -> Path:
    """A saved dataset of good rows; what is added is in the first split. A column of another kind holds nothing."""
    folder.mkdir()
    features = {name: {"_type": "Audio" if name == "audio" else "Value", "dtype": "string"} for name in ROW_KINDS}
    for number, (name, count) in enumerate(SETS.items()):
        rows = [make_row(10 * number + row) for row in range(count)]
        rows += [dict(row) for row in more] if name == "train" else []
        (folder / name).mkdir()
        with (
            pa.OSFile(str(folder / name / "data.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, pa.schema(list(kinds.items()))) as writer,
        ):
            for row in rows:
                row.update({name: None for name in ROW_KINDS if kinds[name] != ROW_KINDS[name]})
                writer.write_table(pa.Table.from_pylist([row], pa.schema(list(kinds.items()))))
        (folder / name / "dataset_info.json").write_text(json.dumps({"features": features}))
        (folder / name / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(SETS)}))
    return folder
