from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.corpora.corpus import Corpus, read_corpus
from model.data import utterances
from model.data.recipe_inputs import ensure_tokenizer
from model.data.tokenizer import Tokenizer
from model.data.utterances import Utterances, UtteranceSet, load_utterances, utterance_file
from model.errors import UserError
from model.network.subsampling import subsampled_length


@pytest.fixture
def tokenizer(corpus: Corpus, make_recipe) -> Tokenizer:
    return Tokenizer(ensure_tokenizer(make_recipe(), corpus))


@pytest.fixture
def copy(corpus: Corpus, tmp_path: Path) -> Corpus:
    """A copy of the corpus, without what was made of it."""
    shutil.copytree(corpus.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    return read_corpus(tmp_path / "copy")


def test_the_arrays_have_what_the_manifest_has_and_the_labels_of_its_texts(
    corpus: Corpus, tokenizer: Tokenizer
) -> None:
    loaded = load_utterances(corpus, [("dev", 1.0), ("train", 1.25)], tokenizer)
    entries = [(name, entry) for name in ("dev", "train") for entry in corpus.entries(name)]
    assert len(loaded) == len(entries)
    assert loaded.set_names == ["dev", "train"]
    for row, (name, entry) in enumerate(entries):
        ending, speed = ("", 1.0) if name == "dev" else ("_sp1.25", 1.25)
        assert (loaded.set_name(row), loaded.id(row)) == (name, entry.id + ending)
        assert (loaded.text(row), loaded.speaker(row)) == (entry.text, entry.speaker)
        assert loaded.labels(row).tolist() == tokenizer.encode(entry.text)
        assert loaded.label_counts[row] == len(loaded.labels(row))
        assert loaded.seconds[row] == pytest.approx(entry.samples / 16_000 / speed, abs=1e-4)
        assert loaded.frames[row] == len(loaded.features(row))
        assert len(loaded.waveform(row)) == round(16_000 * loaded.seconds[row])


def test_a_waveform_is_that_of_its_recording_also_when_the_corpus_was_moved(
    copy: Corpus, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    entry = next(iter(copy.entries("dev")))
    load_utterances(copy, [("dev", 1.0)], tokenizer)
    shutil.move(copy.folder, tmp_path / "moved")
    moved = read_corpus(tmp_path / "moved")
    waveform = load_utterances(moved, [("dev", 1.0)], tokenizer).waveform(0)
    first = next(iter(moved.entries("dev")))
    assert first.id == entry.id
    torch.testing.assert_close(waveform, torch.from_numpy(moved.read_samples(first)).float())


@given(st.lists(st.tuples(st.lists(st.integers(1, 3), max_size=6), st.integers(0, 60)), min_size=1, max_size=6))
def test_labels_can_be_aligned_where_there_is_a_frame_for_each_and_for_a_blank_between_equal_ones(
    cases: list[tuple[list[int], int]],
) -> None:
    labels = [[*tokens, 0] for tokens, _ in cases]
    frames = np.array([count for _, count in cases])
    features: Any = SimpleNamespace(frames=frames)
    starts = np.cumsum([0, *map(len, labels)])
    empty: Any = None
    samples = np.zeros(len(cases), dtype=int)
    one = UtteranceSet(empty, "train", 1.0, empty, samples, np.concatenate(labels), starts, features)
    expected = [
        subsampled_length(count) >= len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
        for tokens, count in zip(labels, frames.tolist(), strict=True)
    ]
    assert Utterances([one, one]).find_ctc_alignable().tolist() == expected * 2


def test_another_tokenizer_has_labels_of_its_own(corpus: Corpus, tokenizer: Tokenizer, make_recipe) -> None:
    other = Tokenizer(ensure_tokenizer(make_recipe({"tokenizer.vocabulary": 30}), corpus))
    assert utterance_file(corpus, "dev", 1.0, other) != utterance_file(corpus, "dev", 1.0, tokenizer)
    loaded = load_utterances(corpus, [("dev", 1.0)], other)
    assert loaded.labels(0).tolist() == other.encode(loaded.text(0)) != tokenizer.encode(loaded.text(0))


def test_a_file_that_is_damaged_is_named_with_what_to_do(copy: Corpus, tokenizer: Tokenizer) -> None:
    load_utterances(copy, [("dev", 1.0)], tokenizer)
    path = utterance_file(copy, "dev", 1.0, tokenizer)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"dev@1-.*\.arrow: cannot be read \(.*\); remove it, and it is made again"):
        load_utterances(copy, [("dev", 1.0)], tokenizer)
    path.unlink()
    assert len(load_utterances(copy, [("dev", 1.0)], tokenizer)) == copy.sets["dev"].utterances


def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_file(
    copy: Corpus, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(utterances, "sync_file", full)
    with pytest.raises(UserError, match=r"labels cannot be kept there \(No space left on device\); make room, or copy"):
        load_utterances(copy, [("dev", 1.0)], tokenizer)
    assert list(utterance_file(copy, "dev", 1.0, tokenizer).parent.iterdir()) == []


def test_a_manifest_that_lacks_utterances_is_refused_when_the_arrays_are_made(
    copy: Corpus, tokenizer: Tokenizer
) -> None:
    more = copy.sets["dev"].model_copy(update={"utterances": 99})
    lacking = replace(copy, sets={**copy.sets, "dev": more})
    with pytest.raises(
        UserError, match=r"set dev: its manifest holds \d+ utterances, but should hold 99; make the cor"
    ):
        load_utterances(lacking, [("dev", 1.0)], tokenizer)


def test_long_lists_of_texts_are_encoded_as_short_ones(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"open the {word}" for word in ("door", "window", "roof", "door", "gate")]
    whole = utterances._encode_all(texts, tokenizer)
    monkeypatch.setattr(utterances, "ENCODED_TOGETHER", 2)
    assert utterances._encode_all(texts, tokenizer) == whole
    assert whole.to_pylist() == [tokenizer.encode(text) for text in texts]
    assert whole.type == pa.large_list(pa.int32())
