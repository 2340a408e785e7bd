"""What preflight asks of a study's corpus on each node."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from model.corpora.corpus import Corpus
from model.errors import UserError
from study.remote.corpus_check import make_corpus_check, read_fingerprint


@pytest.fixture
def copy(corpus: Corpus, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus.folder, tmp_path / "copy"))


def test_copies_of_a_corpus_have_the_same_fingerprint_wherever_they_lie(corpus: Corpus, copy: Path) -> None:
    assert read_fingerprint(str(copy)) == read_fingerprint(str(corpus.folder))
    assert corpus.fingerprint.startswith(read_fingerprint(str(copy)).removeprefix("fingerprint "))


def test_a_folder_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{tmp_path}/nowhere: no such folder$"):
        read_fingerprint(f"{tmp_path}/nowhere")
    with pytest.raises(UserError, match=rf"^{tmp_path}: holds no corpus.yaml, so it is no corpus$"):
        read_fingerprint(str(tmp_path))


def test_audio_that_is_not_there_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "audio")
    with pytest.raises(UserError, match=rf"^{copy}: {copy}/audio/train/train-00000.flac: no such audio file$"):
        read_fingerprint(str(copy))


def test_the_check_goes_to_other_machines_as_a_name(copy: Path) -> None:
    check = pickle.loads(pickle.dumps(make_corpus_check(str(copy))))
    assert check.look() == read_fingerprint(str(copy))
    assert check.name == "corpus"
