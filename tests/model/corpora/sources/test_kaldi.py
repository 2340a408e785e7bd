from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_layouts import write_kaldi
from recordings import describe, list_found, noise, read_samples, write_noise

from model.corpora.preparation import Preparation, Prepared, prepare_corpus
from model.corpora.sources.kaldi import read_kaldi
from model.errors import UserError

SETS = ("train", "dev", "test")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three data folders, each of one recording in two segments."""
    data = tmp_path / "exp" / "my data"
    for seed, name in enumerate(SETS):
        write_noise(tmp_path / "exp" / "audio" / f"{name}.wav", seed, 2.0)
        write_kaldi(
            data / name,
            wav_scp=f"{name} {tmp_path}/exp/audio/{name}.wav",
            segments=f"{name}-1 {name} 0 0.75;{name}-2 {name} 0.75 -1",
            text=f"{name}-1 Hello,  {name};{name}-2 good bye {name}",
            utt2spk=f"{name}-1 ann;{name}-2 bob",
        )
    return [data / name for name in SETS]


def prepare(folders: list[Path]) -> Prepared:
    return prepare_corpus(read_kaldi(folders), folders[0].parents[1] / "out", Preparation())


def test_data_folders_are_sets_with_their_segments_texts_and_speakers(folders: list[Path]) -> None:
    prepared = prepare(folders)
    assert describe(prepared.corpus) == {
        name: [(f"{name}-1", f"hello {name}", "ann"), (f"{name}-2", f"good bye {name}", "bob")] for name in SETS
    }
    assert prepared.corpus.name == "my-data"
    assert list_found(prepared.findings) == {"test-speaker": ["train train-1: ann", "train train-2: bob"]}
    samples = read_samples(prepared.corpus)
    whole, _ = soundfile.read(folders[0].parents[1] / "audio" / "train.wav")
    np.testing.assert_array_equal(samples["train-1"], whole[:12_000])
    np.testing.assert_array_equal(samples["train-2"], whole[12_000:])


def test_without_segments_recordings_are_utterances_and_without_utt2spk_no_speaker_is_known(
    folders: list[Path],
) -> None:
    for folder in folders:
        (folder / "segments").unlink()
        (folder / "utt2spk").unlink()
        write_kaldi(folder, text=f"{folder.name} All of {folder.name}")
    corpus = prepare(folders).corpus
    assert describe(corpus) == {name: [(name, f"all of {name}", "unknown")] for name in SETS}
    assert len(read_samples(corpus)["dev"]) == 32_000


def test_a_speaker_who_is_named_as_the_utterance_is_unknown(folders: list[Path]) -> None:
    write_kaldi(folders[0], utt2spk="train-1 train-1;train-2 bob")
    assert [segment.speaker for segment in read_kaldi(folders).segments][:2] == [None, "bob"]


@pytest.mark.parametrize("pipe", ["sph2pipe -p x.sph |", "| cat", "-"])
def test_commands_are_never_run_and_their_utterances_are_left_out(
    folders: list[Path], tmp_path: Path, pipe: str
) -> None:
    scp = (folders[0] / "wav.scp").read_text().strip()
    write_kaldi(folders[0], wav_scp=f"{scp};call touch {tmp_path}/ran && cat {tmp_path}/x.wav |;other {pipe}")
    segments = "train-1 train 0 1;call-1 call 0 1;call-2 call 1 2;other-1 other 0 1"
    write_kaldi(folders[0], segments=segments, text="train-1 a;call-1 b;call-2 c;other-1 d")
    prepared = prepare(folders)
    assert list_found(prepared.findings)["pipe"] == ["train call-1: call", "train call-2: call", "train other-1: other"]
    assert prepared.lines[0].startswith("3 left out: the recording is the output of a command, which is not run (")
    assert [id for id, _, _ in describe(prepared.corpus)["train"]] == ["train-1"]
    assert not (tmp_path / "ran").exists()


def test_what_is_there_without_the_rest_is_found(folders: list[Path]) -> None:
    scp = (folders[0] / "wav.scp").read_text().strip()
    write_kaldi(
        folders[0],
        wav_scp=f"{scp};unused {scp.split(maxsplit=1)[1]};ark data/wav.ark:1234;gone gone.wav",
        segments="train-1 train 0 1;train-2 train 1 2;silent train 1 1.5;lost none 0 1;in-ark ark 0 1;gone-1 gone 0 1",
        text="train-1 one;train-2;lost three;in-ark four;gone-1 five;alone six",
    )
    assert list_found(prepare(folders).findings) == {
        "no-transcript": ["train silent", "train unused: no segment of it"],
        "no-recording": ["train lost: none", "train alone: neither a segment nor a recording"],
        "unreadable": ["train in-ark: ark is a place in an archive, wav.ark:1234"],
        "no-text": ["train train-2: basic: ''"],
        "missing": ["train gone-1: gone.wav"],
        "test-speaker": ["train train-1: ann"],
    }


def test_paths_are_relative_to_the_current_folder_or_the_data_folder_or_one_above_it(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_kaldi(tmp_path / "here"))
    write_noise(Path("test.wav").absolute(), 9, 2.5)
    write_noise(folders[1] / "dev.wav", 9, 3.0)
    write_noise(folders[1] / "test.wav", 9, 3.5)
    for folder, path in zip(folders, ("audio/train.wav", "dev.wav", "test.wav"), strict=True):
        write_kaldi(folder, wav_scp=f"{folder.name} {path}")
    samples = read_samples(prepare(folders).corpus)
    lengths = {name: len(samples[f"{name}-1"]) + len(samples[f"{name}-2"]) for name in SETS}
    assert lengths == {"train": 32_000, "dev": 48_000, "test": 40_000}


def test_a_listed_channel_is_chosen_where_the_file_has_several(folders: list[Path], tmp_path: Path) -> None:
    sides = [noise(20, 1.0), noise(21, 1.0)]
    soundfile.write(tmp_path / "call.wav", np.stack(sides, axis=1), 16_000)
    side = write_noise(tmp_path / "side.wav", 22, 1.0)
    (folders[0] / "segments").unlink()
    write_kaldi(
        folders[0],
        wav_scp=f"a {tmp_path}/call.wav;b {tmp_path}/call.wav;c {tmp_path}/side.wav;d {tmp_path}/none.wav",
        text="a left;b right;c already chosen;d none",
        reco2file_and_channel="a call A;b call B;c side 2;d none 1",
    )
    prepared = prepare(folders)
    samples = read_samples(prepared.corpus)
    for id, expected in (("a", sides[0]), ("b", sides[1]), ("c", side)):
        np.testing.assert_allclose(samples[id], expected, atol=1 / 32768)
    assert list_found(prepared.findings) == {"missing": ["train d: none.wav"]}


def test_a_single_folder_is_divided(folders: list[Path], tmp_path: Path) -> None:
    ids = [f"utt{number}" for number in range(30)]
    for number, id in enumerate(ids):
        write_noise(tmp_path / "audio" / f"{id}.wav", number)
    folder = write_kaldi(
        tmp_path / "all",
        wav_scp=";".join(f"{id} audio/{id}.wav" for id in ids),
        text=";".join(f"{id} sentence {id}" for id in ids),
    )
    corpus = prepare_corpus(read_kaldi([folder]), tmp_path / "out", Preparation()).corpus
    assert sorted(id for found in describe(corpus).values() for id, _, _ in found) == sorted(ids)
    assert set(corpus.sets) == set(SETS)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"segments": "train-1 train 0"}, r"segments: line 1 has 3 fields, but must have 4: UTTERANCE RECORDING START"),
        ({"segments": "train-1 train 0 1 A"}, r"segments: line 1 has 5 fields, but must have 4"),
        (
            {"segments": "train-1 train 0 1;train-2 train 0 x"},
            r"segments: line 2 is from '0' to 'x', but must have sec",
        ),
        (
            {"segments": "train-1 train 1 0.5"},
            r"segments: line 1 is from '1' to '0.5', .* or -1 for the end of the rec",
        ),
        ({"segments": "train-1 train -1 0.5"}, r"segments: line 1 is from '-1' to '0.5', but must have seconds"),
        ({"segments": "train-1 train 0 inf"}, r"segments: line 1 is from '0' to 'inf'"),
        ({"segments": "x train 0 1;;x train 1 2"}, r"segments: line 3 has 'x' again, after line 1; keep one"),
        ({"text": "x a;y b;x c"}, r"text: line 3 has 'x' again, after line 1; keep one"),
        ({"wav_scp": "a"}, r"wav.scp: line 1 names no audio file for a; add it"),
        (
            {"reco2file_and_channel": "a x"},
            r"channel: line 1 must have RECORDING FILE CHANNEL, where CHANNEL is A, B, ",
        ),
        ({"reco2file_and_channel": "a x C"}, r"reco2file_and_channel: line 1 must have RECORDING FILE CHANNEL"),
    ],
)
def test_a_malformed_line_is_an_error_that_names_it(folders: list[Path], files: dict[str, str], message: str) -> None:
    write_kaldi(folders[0], **files)
    with pytest.raises(UserError, match=message) as caught:
        read_kaldi(folders)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_data_folders_are_refused(folders: list[Path], tmp_path: Path) -> None:
    other = write_kaldi(tmp_path / "other" / "train", wav_scp="a a.wav", text="a b")
    with pytest.raises(
        UserError, match=r"train and .*other/train would both be set 'train'; rename one of the folders"
    ):
        read_kaldi([*folders, other])
    (folders[1] / "text").write_bytes("dev-1 café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"dev/text: is not UTF-8 text \(byte 9\); save it as UTF-8"):
        read_kaldi(folders)
    (folders[0] / "text").unlink()
    with pytest.raises(UserError, match=r"train: holds no text; give Kaldi data folders, with wav.scp and text"):
        read_kaldi(folders)
