"""A study of hundreds of trials: its process grows by the records of its trials, and by nothing that Tune keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_growth import growth_per_trial, measure_growth

from model.corpora.corpus import Corpus

TRIALS, EPOCHS, TIMEOUT = 400, 10, 900.0
MOST_BYTES = 50 * 1024  # a trial; it was 120 KiB to 300 KiB while Tune kept what it knew of each one


@pytest.mark.chaos
@pytest.mark.timeout(TIMEOUT + 60)
def test_a_study_of_400_trials_grows_by_less_than_50_kib_a_trial(corpus: Corpus, tmp_path: Path) -> None:
    samples = measure_growth(corpus.folder, tmp_path, TRIALS, EPOCHS, TIMEOUT)
    assert samples[-1][0] == TRIALS
    assert growth_per_trial(samples) < MOST_BYTES, samples
