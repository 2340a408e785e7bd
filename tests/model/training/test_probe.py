from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from model.corpora.corpus import Corpus
from model.data.batches import TrainingSet
from model.data.recipe_inputs import ensure_tokenizer
from model.data.tokenizer import Tokenizer
from model.training.probe import EPOCHS, probe_recipe, write_sample


def test_a_probe_trains_and_scores_for_real_and_leaves_nothing(
    make_recipe, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    auxiliary = {"loss.auxiliary.placement": [2], "loss.auxiliary.weights": [0.4]}
    recipe = make_recipe(auxiliary | {"optimiser.decay": "noam"})  # its steps of warm-up are more than the probe has
    probe = probe_recipe(recipe, workers=2)
    assert len(probe.step) == len(probe.scoring) == EPOCHS - 1, "the first epoch is not counted"
    assert min(*probe.step, *probe.scoring) > 0
    assert probe.weight_bytes > 10_000
    training_set = TrainingSet(corpus, recipe.data, recipe.augmentation, Tokenizer(ensure_tokenizer(recipe, corpus)))
    assert probe.pass_steps == training_set.count_steps(0), "of the whole corpus, at all speeds"
    assert list(tmp_path.glob("decred-*")) == []


def test_a_sample_has_the_seconds_that_are_asked_for_and_audio_that_stays_where_it_is(
    corpus: Corpus, tmp_path: Path
) -> None:
    dev_seconds = write_sample(corpus, tmp_path / "sample", 6.0, 3.0)
    from model.corpora.corpus import read_corpus

    sample = read_corpus(tmp_path / "sample")
    longest = max(entry.samples for name in corpus.sets for entry in corpus.entries(name)) / 16_000
    assert 6.0 <= sample.sets["train"].seconds < 6.0 + longest
    assert dev_seconds == pytest.approx(sample.sets["dev"].seconds, abs=1e-3)
    assert not (sample.folder / "audio").exists()
    originals = {entry.id: entry for name in corpus.sets for entry in corpus.entries(name)}
    for entry in sample.entries("train"):
        assert entry.text == originals[entry.id].text
        assert (sample.read_samples(entry) == corpus.read_samples(originals[entry.id])).all()
