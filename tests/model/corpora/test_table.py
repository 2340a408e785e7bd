from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from model.corpora.audio import resample
from model.corpora.corpus import read_corpus
from model.corpora.normaliser import normalise
from model.corpora.table import PreparedTable, choose_set, prepare_table
from model.errors import UserError

HEADER = "audio\ttext\tset"
SPLIT = "audio\ttext"  # the rows are divided into sets
GOOD = ("a.wav\tOne, two.\ttrain", "b.wav\tThree!\tdev", "c.wav\tFour\ttest")


def tone(seconds: float = 0.5, rate: int = 8000, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        soundfile.write(tmp_path / f"{name}.wav", tone(), 8000)
    return tmp_path


def prepare(folder: Path, *lines: str, **options: str) -> PreparedTable:
    (folder / "my table.tsv").write_text("\n".join(lines) + "\n")
    return prepare_table(folder / "my table.tsv", folder / "out", **options)


def test_a_table_becomes_a_corpus_named_after_it(folder: Path) -> None:
    corpus, skipped = prepare(folder, HEADER, *GOOD)
    assert read_corpus(folder / "out") == corpus
    assert (corpus.name, corpus.normaliser, skipped.count) == ("my-table", "basic", 0)
    assert [corpus.texts(name) for name in ("train", "dev", "test")] == [["one two"], ["three"], ["four"]]
    assert corpus.cuts("train")[0].supervisions[0].speaker == "unknown"


@pytest.mark.parametrize(
    ("rate", "suffix", "channels"),
    [(8000, "wav", 1), (11025, "wav", 2), (16000, "flac", 2), (22254, "aiff", 1), (44100, "ogg", 2), (48000, "mp3", 1)],
)
def test_any_rate_channels_and_format_become_16_khz_mono(folder: Path, rate: int, suffix: str, channels: int) -> None:
    audio = folder / f"x.{suffix}"
    soundfile.write(audio, np.tile(tone(0.5, rate)[:, None], (1, channels)), rate)
    corpus, _ = prepare(folder, HEADER, f"x.{suffix}\tone\ttrain", *GOOD[1:])
    samples = corpus.cuts("train")[0].load_audio()[0]
    assert len(samples) == pytest.approx(8000, abs=1)
    np.testing.assert_allclose(samples[500:7500], tone(0.5, 16000)[500:7500], atol=0.05)


def test_16_bit_audio_at_16_khz_is_kept_bit_for_bit(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(-32768, 32767, 8000, dtype=np.int16)
    soundfile.write(folder / "a.wav", noise, 16000)
    corpus, _ = prepare(folder, HEADER, *GOOD)
    kept, _ = soundfile.read(corpus.cuts("train")[0].recording.sources[0].source, dtype="int16")
    np.testing.assert_array_equal(kept, noise)


def test_the_usual_rates_are_resampled_exactly_and_odd_ones_to_a_millionth() -> None:
    assert len(resample(np.zeros(44100), 44100)) == len(resample(np.zeros(11025), 11025)) == 16000
    assert len(resample(np.zeros(22254), 22254)) == pytest.approx(16000, abs=1)


def test_names_with_ood_are_out_of_domain_test_sets(folder: Path) -> None:
    soundfile.write(folder / "d.wav", tone(), 8000)
    soundfile.write(folder / "e.wav", tone(), 8000)
    corpus, _ = prepare(folder, HEADER, *GOOD, "d.wav\td\ttest-ood-phone", "e.wav\te\ttest-far")
    assert corpus.set_names("test", "out") == ["test-ood-phone"]
    assert corpus.set_names("test", "in") == ["test", "test-far"]


def test_unusable_rows_are_skipped_and_counted_by_reason(folder: Path) -> None:
    (folder / "text.wav").write_text("no audio")
    soundfile.write(folder / "short.wav", tone(0.05), 8000)
    soundfile.write(folder / "nan.wav", np.full(8000, np.nan), 8000, subtype="FLOAT")
    soundfile.write(folder / "d.wav", tone(), 8000)
    bad = ("none.wav\tx\tdev", "text.wav\tx\tdev", "short.wav\tx\tdev", "nan.wav\tx\tdev", "d.wav\t...\tdev")
    corpus, skipped = prepare(folder, HEADER, *GOOD, *bad)
    assert corpus.sets["dev"].utterances == 1
    assert skipped.count == 5
    report = "\n".join(skipped.lines())
    assert "1 row skipped, no text under normaliser 'basic' (line 9: '...')" in report
    assert "1 row skipped, no such audio file (line 5: none.wav)" in report
    assert "1 row skipped, audio cannot be read (line 6: text.wav, Error opening" in report
    assert "1 row skipped, audio shorter than 0.1 s (line 7: short.wav)" in report
    assert "1 row skipped, audio holds values that are no numbers (line 8: nan.wav)" in report


def test_the_report_names_the_first_three_rows_of_a_reason(folder: Path) -> None:
    missing = [f"none{number}.wav\tx\ttrain" for number in range(5)]
    _, skipped = prepare(folder, HEADER, *GOOD, *missing)
    assert skipped.lines() == [
        "5 rows skipped, no such audio file (line 5: none0.wav; line 6: none1.wav; line 7: none2.wav; ...)"
    ]


@given(st.text(), st.integers(0, 5))
def test_the_same_sentence_is_never_in_two_sets_however_it_is_written(text: str, seed: int) -> None:
    assert choose_set(text, seed) == choose_set(f"  {text} !", seed) == choose_set(normalise("basic", text), seed)


def test_without_a_set_column_four_fifths_train_and_a_tenth_each_dev_and_test() -> None:
    sets = [choose_set(f"sentence {number}", seed=0) for number in range(3000)]
    shares = {name: sets.count(name) / len(sets) for name in ("train", "dev", "test")}
    assert shares == pytest.approx({"train": 0.8, "dev": 0.1, "test": 0.1}, abs=0.02)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("",), r"is empty; give a header line \(audio, text, speaker, set\) and a row for each recording"),
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
        ((HEADER, GOOD[0]), r"no row falls into set 'dev' \(1 in train\); add rows, or a column 'set'"),
        ((HEADER, GOOD[1]), r"no row falls into set 'train' \(1 in dev\)"),
        (
            (HEADER, GOOD[0], "n.wav\tx\tdev", "m.wav\tx\tdev", "my table.tsv\tx\tdev"),
            r"no row falls into set 'dev' \(1 in train; 2 rows skipped, no such audio file \(line 3: n.wav; line 4: "
            r"m.wav\); 1 row skipped, audio cannot be read \(line 5: my table.tsv, .*\)\); add rows, or",
        ),
        ((HEADER, "a.wav\t?\tdev"), r"none of its 1 rows is usable; 1 row skipped, no text under normaliser 'basic'"),
        ((HEADER, "n.wav\tx\tdev", "m.wav\tx\ttrain"), r"none of its 2 rows is usable; 2 rows skipped, no such audio"),
        ((SPLIT, "n.wav\tx", "m.wav\ty"), r"none of its 2 rows is usable; 2 rows skipped, no such audio file \(line 2"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line_and_leaves_nothing(
    folder: Path, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        prepare(folder, *lines)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "b.wav", "c.wav", "my table.tsv"]


def test_audio_that_only_decoding_shows_to_be_unusable_is_reported_for_a_set_without_other_rows(folder: Path) -> None:
    soundfile.write(folder / "b.wav", np.full(8000, np.nan), 8000, subtype="FLOAT")
    message = r"set 'dev' has no usable row; 1 row skipped, no such audio file .*; 1 row skipped, audio holds values"
    with pytest.raises(UserError, match=message):
        prepare(folder, HEADER, "n.wav\tx\ttrain", *GOOD)


def test_a_missing_table_and_one_that_is_no_text_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.tsv: cannot be read \(No such file or directory\); give the path"):
        prepare_table(tmp_path / "none.tsv", tmp_path / "out")
    (tmp_path / "latin.tsv").write_bytes("audio\ttext\na.wav\tcafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.tsv: is not UTF-8 text \(byte 20\); save it as UTF-8"):
        prepare_table(tmp_path / "latin.tsv", tmp_path / "out")


def test_the_corpus_folder_must_not_hold_its_own_sources(folder: Path) -> None:
    (folder / "t.tsv").write_text("\n".join((HEADER, *GOOD)))
    with pytest.raises(UserError, match=r"lies inside the corpus folder .*; give another --out"):
        prepare_table(folder / "t.tsv", folder)
