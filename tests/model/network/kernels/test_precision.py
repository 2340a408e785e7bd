"""Precision is a matter of speed: what is learned, and what is scored, stays the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.data.batches import Batch
from model.decoding.beam_search import decode
from model.evaluation.error_rates import error_rate, word_edits
from model.network.losses import Counts
from model.network.recogniser import Recogniser
from model.recipe.architecture import MEL_BINS
from model.recipe.training import OptimiserConfig
from model.runtime.distributed import current_context
from model.training.optimiser import make_optimiser, train_step
from model.training.run import start_or_resume

UTTERANCES, FRAMES, TOKENS, STEPS = 4, 40, 4, 60
SIZES = {"encoder.width": 32, "decoder.width": 32, "encoder.feed_forward": 64, "decoder.feed_forward": 64}


def batch_of_noise() -> Batch:
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(UTTERANCES, FRAMES, MEL_BINS, generator=generator)
    labels = torch.randint(4, 40, (UTTERANCES, TOKENS), generator=generator)
    labels[:, -1] = 1
    ids, counts = [str(number) for number in range(UTTERANCES)], Counts(UTTERANCES, UTTERANCES * TOKENS)
    return Batch(ids, features, torch.full((UTTERANCES,), FRAMES), labels, counts)


def as_text(ids: list[int]) -> str:
    return " ".join(map(str, ids))


def wer_after_training(make_recipe, precision: str) -> float:
    torch.manual_seed(0)
    model = Recogniser(make_recipe(SIZES | {"loss.auxiliary": {"placement": [2], "weights": [0.4]}}))
    batch, optimiser = batch_of_noise(), make_optimiser(model, OptimiserConfig(learning_rate=4e-3))
    for _ in range(STEPS):
        assert train_step(model, [batch], optimiser, 4e-3, 5.0, precision).find_fault() is None
    nbest = decode(model.eval(), batch.features, batch.lengths, ctc_weight=0.3)
    pairs = zip(batch.labels.tolist(), nbest, strict=True)
    return error_rate(word_edits(as_text(labels), as_text(hypotheses[0].tokens)) for labels, hypotheses in pairs)


def test_both_precisions_learn_the_same_words(make_recipe) -> None:
    one_word_error = 100 / (UTTERANCES * TOKENS)
    fp32, bf16 = (wer_after_training(make_recipe, precision) for precision in ("fp32", "bf16"))
    assert fp32 <= one_word_error, "the recipe must learn, or equal error rates prove nothing"
    assert bf16 == pytest.approx(fp32, abs=one_word_error)


@pytest.mark.parametrize("units", [True, False])
def test_bf16_on_a_processor_without_units_for_it_is_warned_of(
    make_recipe, run_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, units: bool
) -> None:
    monkeypatch.setattr("model.training.run.has_bf16_units", lambda device: units)
    start_or_resume(make_recipe({"training.precision": "bf16"}), run_folder, current_context())
    assert ("training.precision is bf16, for which this processor has no units" in caplog.text) == (not units)
