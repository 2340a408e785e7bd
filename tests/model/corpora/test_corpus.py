from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.corpora.corpus import CORPUS_FILE, Corpus, SetKind, check_trainable, read_corpus
from model.corpora.corpus_writer import Utterance, recover, write_corpus
from model.errors import UserError
from model.runtime.progress import follow_progress

KINDS = {
    "train": SetKind(role="train"),
    "dev": SetKind(role="dev"),
    "test": SetKind(role="test"),
    "test-ood": SetKind(role="test", domain="out"),
}
SAMPLES = 1600  # 0.1 s


def make_utterances(seed: int = 0, text: str = "Hello, {}!") -> Iterator[Utterance]:
    rng = np.random.default_rng(seed)
    for name in KINDS:
        for number in range(2):
            samples = rng.uniform(-0.5, 0.5, SAMPLES)
            yield Utterance(name, f"{name}-{number}", text.format(name), "ann", samples)


def write_small_corpus(folder: Path, seed: int = 0, text: str = "Hello, {}!", name: str = "small") -> Corpus:
    return write_corpus(folder, name, "basic", KINDS, make_utterances(seed, text))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_small_corpus(tmp_path / "corpus")


def test_a_written_corpus_is_read_back_equal(corpus: Corpus) -> None:
    assert read_corpus(corpus.folder) == corpus
    assert {name: (info.utterances, info.seconds) for name, info in corpus.sets.items()} == dict.fromkeys(
        KINDS, (2, 0.2)
    )


def test_cuts_have_normalised_text_a_speaker_and_the_audio_that_was_written(corpus: Corpus) -> None:
    cuts = list(corpus.cuts("dev"))
    expected = [utterance.samples for utterance in make_utterances() if utterance.set_name == "dev"]
    assert [cut.supervisions[0].text for cut in cuts] == corpus.texts("dev") == ["hello dev", "hello dev"]
    assert {cut.supervisions[0].speaker for cut in cuts} == {"ann"}
    for cut, samples in zip(cuts, expected, strict=True):
        np.testing.assert_allclose(cut.load_audio()[0], samples, atol=0.5 / 32768 + 1e-9)
        info = soundfile.info(cut.recording.sources[0].source)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16_000, 1, "FLAC", "PCM_16")


def test_set_names_are_selected_by_role_and_domain(corpus: Corpus) -> None:
    assert corpus.set_names("train") == ["train"]
    assert corpus.set_names("test") == ["test", "test-ood"]
    assert corpus.set_names("test", "in") == ["test"]
    assert corpus.set_names("test", "out") == ["test-ood"]


def test_a_corpus_has_the_version_of_the_rules_that_its_texts_went_through(corpus: Corpus, tmp_path: Path) -> None:
    assert corpus.normaliser_version == "basic 1"
    folder = tmp_path / "later"
    shutil.copytree(corpus.folder, folder)
    file = folder / "corpus.yaml"
    file.write_text(file.read_text().replace("basic 1", "basic 0"))
    assert read_corpus(folder).normaliser_version == "basic 0"
    file.write_text(file.read_text().replace("normaliser_version: basic 0\n", ""))
    assert read_corpus(folder).normaliser_version == "basic 1", "corpora of version 0.2 do not say"


def test_a_corpus_can_be_moved(corpus: Corpus, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(corpus.folder, moved)
    shutil.rmtree(corpus.folder)
    assert read_corpus(moved).cuts("train")[0].load_audio().shape == (1, SAMPLES)
    assert read_corpus(moved).fingerprint == corpus.fingerprint


def test_the_fingerprint_is_that_of_the_content(corpus: Corpus, tmp_path: Path) -> None:
    assert write_small_corpus(tmp_path / "same").fingerprint == corpus.fingerprint
    assert write_small_corpus(tmp_path / "audio", seed=1).fingerprint != corpus.fingerprint
    assert write_small_corpus(tmp_path / "text", text="bye {}").fingerprint != corpus.fingerprint
    assert write_corpus(tmp_path / "norm", "small", "none", KINDS, make_utterances()).fingerprint != corpus.fingerprint
    roles = KINDS | {"test-ood": SetKind(role="test")}
    assert write_corpus(tmp_path / "role", "small", "basic", roles, make_utterances()).fingerprint != corpus.fingerprint


def test_a_corpus_of_the_same_name_is_replaced(corpus: Corpus) -> None:
    again = write_small_corpus(corpus.folder, seed=1)
    assert again.fingerprint != corpus.fingerprint
    assert read_corpus(corpus.folder) == again
    assert [path.name for path in corpus.folder.parent.iterdir()] == ["corpus"]


def test_each_file_of_a_replaced_corpus_that_is_removed_is_a_sign_of_progress(corpus: Corpus, tmp_path: Path) -> None:
    files = sum(path.is_file() for path in corpus.folder.rglob("*"))
    signs = {"new": 0, "corpus": 0}
    for name in signs:
        notes = list[int]()
        with follow_progress(lambda notes=notes: notes.append(1)):
            write_small_corpus(tmp_path / name, seed=1)
        signs[name] = len(notes)
    assert signs["corpus"] - signs["new"] == files - 1, "all but the file that goes first"


def test_a_link_in_the_place_of_a_replaced_corpus_is_not_followed(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "draft.old").symlink_to(corpus.folder)
    recover(tmp_path / "corpus", tmp_path / "draft")
    assert read_corpus(corpus.folder) == corpus


def test_a_corpus_of_another_name_is_not_replaced(corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"holds corpus 'small', not 'other'; give another --out or remove it"):
        write_small_corpus(corpus.folder, name="other")


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="exists and is no corpus; give a new or empty folder as --out"):
        write_small_corpus(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interrupted_writer_leaves_nothing_and_keeps_the_old_corpus(corpus: Corpus) -> None:
    def interrupted() -> Iterator[Utterance]:
        yield next(make_utterances(seed=1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_corpus(corpus.folder, "small", "basic", KINDS, interrupted())
    assert [path.name for path in corpus.folder.parent.iterdir()] == ["corpus"]
    assert read_corpus(corpus.folder) == corpus


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    first = next(make_utterances())
    with pytest.raises(UserError, match="utterance id 'train-0' appears twice; ids must be unique"):
        write_corpus(tmp_path / "c", "small", "basic", KINDS, [first, first])


@pytest.mark.parametrize("role", ["train", "dev"])
def test_a_corpus_to_train_on_needs_a_train_and_a_dev_set_and_others_need_neither(tmp_path: Path, role: str) -> None:
    kinds = {name: kind for name, kind in KINDS.items() if kind.role != role}
    utterances = [utterance for utterance in make_utterances() if utterance.set_name in kinds]
    corpus = write_corpus(tmp_path / "c", "small", "basic", kinds, utterances)
    assert role not in corpus.sets
    with pytest.raises(UserError, match=f"has no {role} set; a study needs one to .*, so add one, or mix it with a"):
        check_trainable(corpus)


def test_sets_to_score_can_be_out_of_domain_but_training_sets_cannot() -> None:
    with pytest.raises(ValueError, match="role is train and domain is out, but what a model is trained on is its dom"):
        SetKind(role="train", domain="out")
    assert {SetKind(role=role, domain="out").domain for role in ("dev", "test")} == {"out"}


def test_the_error_of_a_missing_folder_names_the_commands_that_make_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such folder; make one with `decred-study prepare demo --out .*` or"):
        read_corpus(tmp_path / "none")


def test_a_folder_without_corpus_yaml_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no corpus.yaml, so it is no corpus"):
        read_corpus(tmp_path)


def test_the_error_of_a_misspelt_key_names_the_nearest(corpus: Corpus) -> None:
    path = corpus.folder / CORPUS_FILE
    path.write_text(path.read_text().replace("normaliser:", "normalizer:"))
    with pytest.raises(UserError, match=r"corpus.yaml: .*'normali[sz]er'"):
        read_corpus(corpus.folder)


def test_an_empty_set_is_refused(corpus: Corpus) -> None:
    path = corpus.folder / CORPUS_FILE
    path.write_text(path.read_text().replace("utterances: 2", "utterances: 0", 1))
    with pytest.raises(UserError, match="set 'train' is empty; give it utterances or leave it out"):
        read_corpus(corpus.folder)


def forget_sizes(corpus: Corpus) -> None:
    """Make the corpus one of version 0.2, which did not state the sizes of its manifests."""
    path = corpus.folder / CORPUS_FILE
    path.write_text(re.sub(r" *manifest_bytes: \d+\n", "", path.read_text()))


def test_a_manifest_of_another_size_is_refused_without_reading_it(corpus: Corpus) -> None:
    path = corpus.folder / "dev.cuts.jsonl.gz"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"dev.cuts.jsonl.gz: has {size - 1} bytes, but corpus.yaml says {size}; make"):
        read_corpus(corpus.folder)


def test_a_manifest_that_lacks_utterances_is_refused(corpus: Corpus) -> None:
    forget_sizes(corpus)
    with gzip.open(corpus.folder / "dev.cuts.jsonl.gz", "wt") as stream:
        stream.write("{}\n")
    with pytest.raises(UserError, match=r"dev.cuts.jsonl.gz: holds 1 utterances, but corpus.yaml says 2"):
        read_corpus(corpus.folder)


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{}\n" * 50, mtime=0)[:-9], gzip.compress(b"{}\n" * 50, mtime=0)[:12] + b"\xff" * 30],
)
def test_a_damaged_manifest_is_refused(corpus: Corpus, content: bytes) -> None:
    forget_sizes(corpus)
    (corpus.folder / "dev.cuts.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"dev.cuts.jsonl.gz: cannot be read \(.*\); make the corpus again"):
        read_corpus(corpus.folder)


def test_a_missing_manifest_is_refused(corpus: Corpus) -> None:
    (corpus.folder / "dev.cuts.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"dev.cuts.jsonl.gz: cannot be read \(No such file or directory\)"):
        read_corpus(corpus.folder)


def test_cuts_that_are_no_cuts_are_refused(corpus: Corpus) -> None:
    forget_sizes(corpus)
    with gzip.open(corpus.folder / "dev.cuts.jsonl.gz", "wt") as stream:
        stream.write("{}\n[]\n")
    damaged = read_corpus(corpus.folder)
    with pytest.raises(UserError, match=r"dev.cuts.jsonl.gz: cannot be read"):
        damaged.cuts("dev")
    with pytest.raises(UserError, match=r"dev.cuts.jsonl.gz: cannot be read"):
        damaged.texts("dev")


def test_missing_audio_is_reported_before_it_is_loaded(corpus: Corpus) -> None:
    shutil.rmtree(corpus.folder / "audio")
    with pytest.raises(UserError, match=r"audio file .*train-0.flac is missing; make the corpus again"):
        corpus.cuts("train")
