from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from recordings import tone

from model.corpora.corpus import read_corpus
from model.corpora.preparation import Preparation, Prepared, prepare_corpus
from model.corpora.sources.table import read_table
from model.errors import UserError

HEADER = "audio\ttext\tset"
GOOD = ("a.wav\tOne, two.\ttrain", "b.wav\tThree!\tdev", "c.wav\tFour\ttest")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for hertz, name in zip((440, 550, 660), "abc", strict=True):
        soundfile.write(tmp_path / f"{name}.wav", tone(hertz=hertz), 8000)
    return tmp_path


def prepare(folder: Path, *lines: str) -> Prepared:
    (folder / "my table.tsv").write_text("\n".join(lines) + "\n")
    return prepare_corpus(read_table(folder / "my table.tsv"), folder / "out", Preparation())


def test_a_table_becomes_a_corpus_named_after_it(folder: Path) -> None:
    corpus, findings = prepare(folder, HEADER, *GOOD).corpus, prepare(folder, HEADER, *GOOD).findings
    assert read_corpus(folder / "out") == corpus
    assert (corpus.name, corpus.normaliser, findings.by_check) == ("my-table", "basic", {})
    assert [corpus.texts(name) for name in ("train", "dev", "test")] == [["one two"], ["three"], ["four"]]
    assert corpus.cuts("train")[0].supervisions[0].speaker == "unknown"
    assert [cut.id for cut in corpus.cuts("dev")] == ["000003-b"]


def test_rows_may_be_stretches_and_channels_of_the_same_recording(folder: Path) -> None:
    recording = np.stack([np.concatenate([tone(1.0), tone(1.0, hertz=880)]), np.zeros(16000)], axis=1)
    soundfile.write(folder / "call.wav", recording, 8000)
    rows = (
        "call.wav\tone\ttrain\t0\t1\t0\tx1",
        "call.wav\ttwo\tdev\t1\t1.5\t0\tx2",
        "call.wav\tthree\ttest\t1.5\t\t0\t",
    )
    corpus = prepare(folder, f"{HEADER}\tstart\tend\tchannel\tid", *rows).corpus
    assert [(cut.id, cut.duration) for name in corpus.sets for cut in corpus.cuts(name)] == [
        ("x1", 1.0),
        ("x2", 0.5),
        ("000004-call", 0.5),
    ]
    samples = corpus.cuts("dev")[0].load_audio()[0]
    np.testing.assert_allclose(samples[500:7500], tone(0.5, 16000, 880)[500:7500], atol=0.01)


def test_names_with_ood_are_out_of_domain(folder: Path) -> None:
    for hertz, name in ((700, "d"), (770, "e")):
        soundfile.write(folder / f"{name}.wav", tone(hertz=hertz), 8000)
    corpus = prepare(folder, HEADER, *GOOD, "d.wav\td\ttest-ood-phone", "e.wav\te\tdev-far").corpus
    assert corpus.set_names("test", "out") == ["test-ood-phone"]
    assert corpus.set_names("dev", "in") == ["dev", "dev-far"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("",), r"is empty; give a header line \(audio, text, speaker, set, .*\) and a row for each recording"),
        ((HEADER,), r"is empty; give a header line"),
        (("audio\ttxt", "a.wav\tx"), r"unknown column 'txt' in line 1; did you mean 'text'\?"),
        (("audio,text", "a.wav,x"), r"unknown column 'audio,text' .* \(columns are separated by tabs\)"),
        (("audio\tspeaker", "a.wav\tx"), r"column 'text' is missing in line 1; add it"),
        (("audio\ttext\ttext", "a.wav\tx\ty"), r"column 'text' appears 2 times; keep one"),
        ((HEADER, "a.wav\tx"), r"line 2 has 2 fields, but the header has 3; separate them by tabs"),
        ((HEADER, "\tx\tdev"), r"line 2 names no audio file"),
        ((HEADER, "a.wav\tx\ttrian"), r"line 2 is for set 'trian', but must be .*; did you mean 'train'\?"),
        ((HEADER, "a.wav\tx\ttest-a/b"), r"line 2 is for set 'test-a/b', but must be"),
        ((HEADER, *GOOD, "./a.wav\tx\tdev"), r"line 5 names .*a.wav again, after line 2; keep one"),
        (
            ("audio\ttext\tstart", "a.wav\tx\t1,5"),
            r"line 2 has start '1,5', but must have seconds, as 12.5, or nothing",
        ),
        (("audio\ttext\tend", "a.wav\tx\t-1"), r"line 2 has end '-1', but must have seconds"),
        (("audio\ttext\tend", "a.wav\tx\tinf"), r"line 2 has end 'inf', but must have seconds"),
        (("audio\ttext\tstart\tend", "a.wav\tx\t2\t1"), r"line 2 ends at 1 s, but must end after its start, 2 s"),
        (
            ("audio\ttext\tchannel", "a.wav\tx\tleft"),
            r"line 2 has channel 'left', but must have 0, 1, ",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line_and_leaves_nothing(
    folder: Path, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepare(folder, *lines)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "b.wav", "c.wav", "my table.tsv"]


def test_a_missing_table_and_one_that_is_no_text_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.tsv: cannot be read \(No such file or directory\); give the path"):
        read_table(tmp_path / "none.tsv")
    (tmp_path / "latin.tsv").write_bytes("audio\ttext\na.wav\tcafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.tsv: is not UTF-8 text \(byte 20\); save it as UTF-8"):
        read_table(tmp_path / "latin.tsv")
