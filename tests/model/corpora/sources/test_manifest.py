from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MultiCut, Recording, RecordingSet, SupervisionSet
from recordings import cut_of, describe, list_found, noise, read_samples, record, supervise, write_noise

from model.corpora.preparation import Preparation, Prepared, prepare_corpus
from model.corpora.sources.manifest import read_manifests
from model.errors import UserError

SETS = ("train", "dev", "test")


@pytest.fixture
def recordings(tmp_path: Path) -> dict[str, Recording]:
    return {name: record(tmp_path / "audio" / f"{name}.wav", seed) for seed, name in enumerate(SETS)}


def write_cuts(folder: Path, recordings: dict[str, Recording], *more: Any) -> list[Path]:
    """A manifest of cuts for each recording; `more` are in the first."""
    folder.mkdir(exist_ok=True)
    paths = []
    for name, recording in recordings.items():
        paths.append(folder / f"cuts_{name}.jsonl.gz")
        CutSet.from_cuts([cut_of(recording, supervise(recording)), *more]).to_file(paths[-1])
        more = ()
    return paths


def prepare(tmp_path: Path, *paths: Path) -> Prepared:
    return prepare_corpus(read_manifests(paths), tmp_path / "out", Preparation())


def edit(path: Path, change: Callable[[dict[str, Any]], None], line: int = 0) -> None:
    """Change an item of a compressed manifest."""
    items = [json.loads(one) for one in gzip.decompress(path.read_bytes()).decode().splitlines()]
    change(items[line])
    path.write_bytes(gzip.compress("".join(f"{json.dumps(item)}\n" for item in items).encode()))


def test_cuts_are_sets_named_after_their_files(recordings: dict[str, Recording], tmp_path: Path) -> None:
    prepared = prepare(tmp_path, write_cuts(tmp_path / "my cuts", recordings)[0].parent)
    assert describe(prepared.corpus) == {name: [(f"{name}-cut", f"text of {name}", f"{name}-ann")] for name in SETS}
    assert (prepared.corpus.name, prepared.lines) == ("my-cuts", [])
    written, _ = soundfile.read(recordings["dev"].sources[0].source)
    np.testing.assert_array_equal(read_samples(prepared.corpus)["dev-cut"], written)


def test_an_utterance_is_where_its_supervision_is_in_the_cut(recordings: dict[str, Recording], tmp_path: Path) -> None:
    call = record(tmp_path / "audio" / "call.wav", 10, 6.0)
    one = [supervise(call, 0.5, 1.0, id="only", text="one")]
    several = [supervise(call, 0.0, 1.5, id="s1", text="two"), supervise(call, 1.0, 3.0, id="s2", text="three")]
    cuts = [cut_of(call, *one, start=0.5, duration=1.5, id="c1"), cut_of(call, *several, start=3.0, id="c2")]
    corpus = prepare(tmp_path, *write_cuts(tmp_path, recordings, *cuts)).corpus
    assert [(id, text) for id, text, _ in describe(corpus)["train"]][1:] == [
        ("c1", "one"),
        ("s1", "two"),
        ("s2", "three"),
    ]
    samples, whole = read_samples(corpus), soundfile.read(call.sources[0].source)[0]
    for id, first, last in (("c1", 1.0, 1.5), ("s1", 3.0, 4.5), ("s2", 4.0, 6.0)):
        np.testing.assert_array_equal(samples[id], whole[round(first * 16_000) : round(last * 16_000)])


def test_channels_are_those_of_the_file_that_has_them(recordings: dict[str, Recording], tmp_path: Path) -> None:
    for name, seeds in (("a", (30, 31)), ("b", (32,)), ("c", (33, 34, 35))):
        samples = np.stack([noise(seed, 1.0) for seed in seeds], axis=1)
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
    array = Recording.from_file(tmp_path / "a.wav", recording_id="array")
    array.sources[0].channels = [4, 7]
    array.sources += Recording.from_file(tmp_path / "b.wav").sources
    array.sources[1].channels = [2]
    array.channel_ids = [2, 4, 7]
    three = Recording.from_file(tmp_path / "c.wav", recording_id="three")
    cuts = [cut_of(array, supervise(array, text=f"c {one}"), channel=one, id=f"a{one}") for one in (2, 4, 7, 9)]
    for id, channel in (("all", [0, 1, 2]), ("two", [0, 2]), ("own", 1)):
        supervision = supervise(three, text=id, channel=channel)
        cuts.append(MultiCut(id, 0, 1.0, [0, 1, 2], supervisions=[supervision], recording=three))
    files = supervise(array, text="files", channel=[2, 4, 7])
    cuts.append(MultiCut("files", 0, 1.0, [2, 4, 7], supervisions=[files], recording=array))
    prepared = prepare(tmp_path, *write_cuts(tmp_path, recordings, *cuts))
    samples = read_samples(prepared.corpus)
    mean = np.mean([noise(seed, 1.0) for seed in (33, 34, 35)], axis=0)
    expected = {"a2": noise(32, 1.0), "a4": noise(30, 1.0), "a7": noise(31, 1.0), "all": mean, "own": noise(34, 1.0)}
    assert {id for id in samples if id[-4:] != "-cut"} == expected.keys()
    for id, values in expected.items():
        np.testing.assert_allclose(samples[id], values, atol=1.5 / 32768)
    place = "cuts_train.jsonl.gz line"
    assert list_found(prepared.findings) == {
        "no-channel": [f"{place} 5: array, channel 9"],
        "channels": [f"{place} 6: c.wav, 3"],
        "unreadable": [
            f"{place} 7: three means channels 0, 2, but must mean one, or all of one file",
            f"{place} 9: array means channels 2, 4, 7, but must mean one, or all of one file",
        ],
    }


def test_what_no_file_has_as_it_is_meant_is_found(recordings: dict[str, Recording], tmp_path: Path) -> None:
    names = ("piped", "remote", "sped", "resampled", "bare", "silent", "mute")
    kinds = {name: record(tmp_path / "audio" / f"{name}.wav", seed) for seed, name in enumerate(names, start=40)}
    cuts = {name: cut_of(one, supervise(one), id=name) for name, one in kinds.items()}
    kinds["piped"].sources[0].type, kinds["piped"].sources[0].source = "command", f"touch {tmp_path}/ran"
    kinds["remote"].sources[0].type, kinds["remote"].sources[0].source = "url", "https://example.org/a.wav"
    cuts["sped"], cuts["resampled"] = cuts["sped"].perturb_speed(1.1), cuts["resampled"].resample(8000)
    cuts["silent"].supervisions, cuts["mute"].supervisions[0].text = [], None
    cuts["bare"].recording = None
    mixed = cut_of(recordings["train"], supervise(recordings["train"])).mix(cut_of(recordings["dev"])).with_id("mixed")
    prepared = prepare(tmp_path, *write_cuts(tmp_path, recordings, *cuts.values(), mixed))
    place = "cuts_train.jsonl.gz line"
    assert list_found(prepared.findings) == {
        "pipe": [f"{place} 2: piped"],
        "unreadable": [
            f"{place} 3: remote is no file but a source of type url, https://example.org/a.wav",
            f"{place} 4: sped_sp1.1 is changed by Speed, which is not supported",
            f"{place} 9: mixed is mixed of several cuts, which is not supported",
        ],
        "no-recording": [f"{place} 6: bare"],
        "no-transcript": [f"{place} 7: silent", f"{place} 8: mute"],
    }
    assert [id for id, _, _ in describe(prepared.corpus)["train"]] == ["train-cut", "resampled"]
    assert len(read_samples(prepared.corpus)["resampled"]) == 32_000
    assert not (tmp_path / "ran").exists()


def test_recordings_and_supervisions_are_paired_by_their_names(
    recordings: dict[str, Recording], tmp_path: Path
) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    for name, one in recordings.items():
        supervisions = [supervise(one, 0.0, 1.25), supervise(one, 1.25, id=f"{name}-t", text="More", channel=[0])]
        RecordingSet.from_recordings([one]).to_file(folder / f"libri_recordings_{name}-clean.jsonl.gz")
        SupervisionSet.from_segments(supervisions).to_file(folder / f"libri_supervisions_{name}-clean.jsonl.gz")
    unused, other = record(tmp_path / "audio" / "unused.wav", 50), record(tmp_path / "audio" / "other.wav", 51)
    RecordingSet.from_recordings([recordings["dev"], unused]).to_file(folder / "libri_recordings_dev-clean.jsonl.gz")
    supervisions = [supervise(recordings["dev"]), supervise(other)]
    SupervisionSet.from_segments(supervisions).to_file(folder / "libri_supervisions_dev-clean.jsonl.gz")
    (folder / "features.jsonl").write_text('{"type": "fbank", "recording_id": "dev", "storage_path": "x"}\n')
    prepared = prepare(tmp_path, folder)
    assert describe(prepared.corpus) == {
        "train-clean": [("train-s", "text of train", "train-ann"), ("train-t", "more", "train-ann")],
        "dev-clean": [("dev-s", "text of dev", "dev-ann")],
        "test-clean": [("test-s", "text of test", "test-ann"), ("test-t", "more", "test-ann")],
    }
    assert list_found(prepared.findings) == {
        "no-recording": ["libri_supervisions_dev-clean.jsonl.gz line 2: other"],
        "no-transcript": ["libri_recordings_dev-clean.jsonl.gz line 2: unused"],
        "test-sentence": ["libri_supervisions_train-clean.jsonl.gz line 2: more"],
    }
    assert len(read_samples(prepared.corpus)["train-t"]) == 12_000


def test_an_utterance_ends_with_its_recording_whatever_length_the_manifest_gives_that(
    recordings: dict[str, Recording], tmp_path: Path
) -> None:
    for one in recordings.values():
        one.duration, one.num_samples = one.duration + 0.05, one.num_samples + 800
    prepared = prepare(tmp_path, *write_cuts(tmp_path, recordings))
    assert prepared.lines == []
    assert {len(one) for one in read_samples(prepared.corpus).values()} == {32_000}


def test_paths_are_relative_to_the_current_folder_or_the_manifests(
    recordings: dict[str, Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_cuts(tmp_path / "cuts", recordings)
    write_noise(tmp_path / "here" / "dev.wav", 9, 2.5)
    write_noise(tmp_path / "cuts" / "test.wav", 9, 3.0)
    for path, name in zip(paths[1:], SETS[1:], strict=True):
        edit(path, lambda cut, name=name: cut["recording"]["sources"][0].update(source=f"{name}.wav"))
    monkeypatch.chdir(tmp_path / "here")
    lengths = {id: len(samples) for id, samples in read_samples(prepare(tmp_path, *paths).corpus).items()}
    assert lengths == {"train-cut": 32_000, "dev-cut": 40_000, "test-cut": 48_000}


@pytest.mark.parametrize(
    ("names", "sets"),
    [
        (("cuts_train.jsonl", "cuts_dev.jsonl"), ["train", "dev"]),
        (("train_cuts.jsonl.gz", "dev-cuts.jsonl"), ["train", "dev"]),
        (("train.cuts.jsonl.gz", "test-other.cuts.jsonl.gz"), ["train", "test-other"]),
        (("libri_cuts_train-clean.jsonl", "libri_cuts_dev.jsonl"), ["train-clean", "dev"]),
        (("libri_cuts_train.jsonl", "ted_cuts_train.jsonl"), ["libri_train", "ted_train"]),
        (("train.jsonl", "my dev.jsonl"), ["train", "my-dev"]),
        (("cuts_train.jsonl",), ["train"]),
    ],
)
def test_a_sets_name_is_what_its_files_name_says_beside_the_kind(
    tmp_path: Path, names: tuple[str, ...], sets: list[str]
) -> None:
    recording = {"id": "r", "duration": 1.0, "sources": [{"type": "file", "channels": [0], "source": "/r.wav"}]}
    supervision = {"id": "s", "recording_id": "r", "start": 0, "duration": 1, "text": "a"}
    cut = {"type": "MonoCut", "id": "c", "start": 0, "duration": 1, "channel": 0, "supervisions": [supervision]}
    for name in names:
        content = json.dumps({**cut, "recording": recording}).encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    source = read_manifests([tmp_path / name for name in names])
    assert [segment.set_name for segment in source.segments] == sets


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cuts/recordings_x.jsonl"], r"recordings_x.jsonl: its supervisions are missing; give the two together, or a"),
        (["features.jsonl"], r"features.jsonl: holds neither cuts nor recordings nor supervisions; give a manifest"),
        (["empty.jsonl"], r"empty.jsonl: is empty; give a manifest that has items, or leave it out"),
        (["list.jsonl"], r"list.jsonl: line 1 is no JSON object, but '\[1\]'; write it with lhotse again"),
        (["text.jsonl"], r"text.jsonl: line 1 is not JSON \(.*\); write it with lhotse again"),
        (["none.jsonl"], r"none.jsonl: no such file or folder; give a lhotse manifest, or a folder of them"),
        (["a.yaml"], r"a.yaml: is no manifest by its name; give a file that ends with .jsonl or .jsonl.gz"),
        (["audio"], r"audio: holds no lhotse manifest; give a folder with files .jsonl or .jsonl.gz, or Shar"),
        (["cuts/cuts_train.jsonl.gz", "cuts/train-cuts.jsonl.gz"], r"are the same set; give the files of one of them"),
        (["cuts/cuts_train.jsonl.gz", "train.jsonl.gz"], r"would both be set 'train'; rename one of them"),
        (["cuts/cuts_dev.jsonl.gz"], r"cuts_dev.jsonl.gz line 1: cannot be understood \(it lacks 'duration'\); write"),
        (["cuts/cuts_test.jsonl.gz"], r"cuts_test.jsonl.gz: cannot be read \(.*\); give the path of a whole manifest"),
    ],
)
def test_manifests_that_cannot_be_used_are_errors_of_one_line(
    recordings: dict[str, Recording], tmp_path: Path, names: list[str], message: str
) -> None:
    train, dev, test = write_cuts(tmp_path / "cuts", recordings)
    shutil.copy(train, tmp_path / "cuts" / "train-cuts.jsonl.gz")
    shutil.copy(train, tmp_path / "train.jsonl.gz")
    edit(dev, lambda cut: cut["supervisions"][0].pop("duration"))
    test.write_bytes(test.read_bytes()[:-20])
    (tmp_path / "cuts" / "recordings_x.jsonl").write_text('{"id": "r", "sources": []}\n')
    for name, content in (
        ("features.jsonl", '{"type": "fbank", "storage_path": "x"}\n'),
        ("empty.jsonl", "\n"),
        ("list.jsonl", "[1]\n"),
        ("text.jsonl", "one two\n"),
        ("a.yaml", "- id: a\n"),
    ):
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_manifests([tmp_path / name for name in names])
    assert "\n" not in str(caught.value)
