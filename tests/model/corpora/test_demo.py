from __future__ import annotations

import builtins
import itertools
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run_in_new_process

from model.corpora.corpus import CORPUS_FILE, Corpus
from model.corpora.demo.build import TRAINING_VOICES, UNSEEN_VOICES, make_demo
from model.corpora.demo.sentences import demo_sentences
from model.corpora.demo.voice import Voice, speak
from model.errors import UserError

SIZES = {"train_utterances": 30, "dev_utterances": 10, "test_utterances": 6}
SMALL = {"train_utterances": 20, "dev_utterances": 1, "test_utterances": 1}
VOICES = [Voice(accent, variant, 190, 50) for accent, variant in (*TRAINING_VOICES, *UNSEEN_VOICES)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_demo(tmp_path_factory.mktemp("corpora") / "demo", **SIZES)


def words(sentences: list[str]) -> set[str]:
    return {word for sentence in sentences for word in sentence.split()}


def test_the_demo_has_all_sets_that_a_study_uses(demo: Corpus) -> None:
    sizes = {name: info.utterances for name, info in demo.sets.items()}
    tests = {"test-in": 6, "test-ood-text": 6, "test-ood-voice": 6}
    assert sizes == {"train": 30, "dev": 10, "dev-ood-text": 10, "dev-ood-voice": 10} | tests
    assert demo.set_names("dev", "in") == ["dev"]
    assert demo.set_names("dev", "out") == ["dev-ood-text", "dev-ood-voice"]
    assert demo.set_names("test", "in") == ["test-in"]
    assert demo.set_names("test", "out") == ["test-ood-text", "test-ood-voice"]


def test_every_utterance_is_audible_and_one_to_five_seconds_long(demo: Corpus) -> None:
    for name in demo.sets:
        for cut in demo.cuts(name):
            samples = cut.load_audio()
            assert 0.9 < cut.duration < 5
            assert 0.005 < np.sqrt(np.mean(samples**2)) < 0.5
            assert np.abs(samples).max() < 1.0


def test_unseen_voices_are_in_their_own_test_set_alone(demo: Corpus) -> None:
    speakers = {name: {cut.supervisions[0].speaker for cut in demo.cuts(name)} for name in demo.sets}
    training = {f"{accent}+{variant}" for accent, variant in TRAINING_VOICES}
    assert speakers["train"] == training
    assert speakers["dev"] | speakers["dev-ood-text"] | speakers["test-in"] | speakers["test-ood-text"] <= training
    assert not (speakers["dev-ood-voice"] | speakers["test-ood-voice"]) & training


def _make_fingerprint(folder: Path) -> str:
    return make_demo(folder, **SIZES).fingerprint


def test_another_process_makes_the_same_demo(demo: Corpus, tmp_path: Path) -> None:
    assert run_in_new_process(_make_fingerprint, tmp_path / "demo") == demo.fingerprint


def test_an_existing_demo_is_reused_and_one_that_is_damaged_or_of_another_seed_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = make_demo(folder, **SMALL)
    stamp = (folder / CORPUS_FILE).stat().st_mtime_ns
    assert make_demo(folder, **SMALL) == first
    assert (folder / CORPUS_FILE).stat().st_mtime_ns == stamp
    (folder / "dev.cuts.jsonl.gz").write_bytes(b"half")
    assert make_demo(folder, **SMALL) == first
    assert make_demo(folder, seed=1, **SMALL).fingerprint != first.fingerprint


def test_a_sentence_sounds_the_same_whatever_was_synthesised_before() -> None:
    for voice in VOICES:
        first = speak("turn on the light", voice)
        speak("another sentence", Voice("en-us", "f5", 230, 90))
        np.testing.assert_array_equal(first, speak("turn on the light", voice))


def test_all_voices_sound_different() -> None:
    assert len(VOICES) == len({speak("turn on the light", voice).tobytes() for voice in VOICES}) == 24


def test_a_long_path_to_the_wheel_does_not_silence_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = tmp_path / ("x" * 200)
    far.symlink_to(espeakng_loader.get_data_path())
    before = speak("hello", VOICES[0])
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(far))
    np.testing.assert_array_equal(speak("hello", VOICES[0]), before)


def test_an_unknown_voice_is_refused() -> None:
    with pytest.raises(UserError, match=r"Espeak NG has no voice 'en-mars\+f1'"):
        speak("hello", Voice("en-mars", "f1", 190, 50))


def test_without_the_extra_the_error_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def no_espeak(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_espeak)
    with pytest.raises(UserError, match=r"not installed; run: pip install 'decred-study\[demo\]'"):
        make_demo(tmp_path / "demo", **SIZES)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="exists and is no corpus"):
        make_demo(tmp_path, **SIZES)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(30, 300), st.integers(1, 40), st.integers(1, 30))
def test_sets_share_no_sentence_and_train_has_every_word(seed: int, train: int, dev: int, test: int) -> None:
    sets = demo_sentences(seed, train, dev, test)
    sentences = [sentence for name in sets for sentence in sets[name]]
    assert len(sentences) == len(set(sentences)) == train + dev + 2 * dev + 3 * test
    assert words(sentences) == words(sets["train"])
    assert sets == demo_sentences(seed, train, dev, test)


def share_unseen_pairs(sets: dict[str, list[str]]) -> dict[str, float]:
    """Of each set, the share of its pairs of neighbouring words that training lacks."""
    pairs = {name: [pair for s in sets[name] for pair in itertools.pairwise(s.split())] for name in sets}
    known = set(pairs["train"])
    return {name: sum(pair not in known for pair in pairs[name]) / len(pairs[name]) for name in sets}


def test_the_demo_has_about_ninety_words_and_sentences_out_of_domain_that_join_its_phrases_anew() -> None:
    sets = demo_sentences(0, 900, 120, 100)
    assert 80 <= len(words(sets["train"])) <= 100
    unseen = share_unseen_pairs(sets)
    assert unseen["dev"] < 0.02
    assert unseen["test-in"] < 0.02
    unseen = share_unseen_pairs(demo_sentences(0, 500, 60, 80))  # the sizes of the demo's study
    for name in ("dev-ood-text", "test-ood-text"):
        assert 0.2 < unseen[name] < 0.4, "hard, but most word pairs are known"


def test_more_sentences_than_the_grammar_has_is_an_error() -> None:
    with pytest.raises(UserError, match=r"the demo has \d+ of the 50 sentences asked for; ask for fewer, or train"):
        demo_sentences(0, 1, 50, 1)


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot have sets of \(0, 10, 6\) utterances; give each set at least 1"):
        make_demo(tmp_path / "demo", train_utterances=0, dev_utterances=10, test_utterances=6)
