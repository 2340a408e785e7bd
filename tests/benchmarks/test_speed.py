"""The work that the published implementation was timed on, with the same sizes; its seconds stand beside each row.

Those of the small model were measured side by side with this project's, in one process; those of the study's model in
another run on the same machine.

Shapes: B utterances of some seconds each, random features and labels. Every hypothesis is made to run to its last
token, so that a row is the same amount of work on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from model.data.batches import Batch
from model.data.frontend import FRAMES_PER_SECOND
from model.decoding.beam_search import beam_search, decode
from model.network.kernels.precision import has_bf16_units
from model.network.losses import Counts
from model.network.recogniser import Recogniser
from model.recipe.architecture import MEL_BINS
from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from model.training.optimiser import make_optimiser, train_step

Measure = Callable[..., None]

PART = {"layers": 4, "width": 144, "heads": 4, "feed_forward": 288}
STUDY = {
    "tokenizer.vocabulary": 64,
    "encoder": PART | {"cgmlp": 288, "channels": 144},
    "decoder": PART,
    "loss.auxiliary": {"placement": [2], "weights": [0.3]},
}
MIXTURE = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0)
speed = pytest.mark.speed  # these take seconds each and run by `make benchmark` alone


def recipe(name: str, values: dict[str, Any] | None = None) -> Recipe:
    return with_values(named_recipe(name, "corpus"), {"training.precision": "fp32"} | (values or {}))


@pytest.fixture(scope="module")
def small(device: torch.device) -> Recogniser:
    """12 x 256 and 6 x 256, vocabulary 5000: 39.8 million parameters."""
    torch.manual_seed(0)
    one_auxiliary = {"loss.auxiliary": {"placement": [3], "weights": [0.3]}}
    return endless(Recogniser(recipe("small", one_auxiliary)).to(device))


@pytest.fixture(scope="module")
def study(device: torch.device) -> Recogniser:
    """4 x 144 and 4 x 144, vocabulary 64: 3.2 million parameters."""
    torch.manual_seed(0)
    return endless(Recogniser(recipe("small", STUDY)).to(device))


def endless(model: Recogniser) -> Recogniser:
    """eos is never the best token, so a search runs as long as it may."""
    with torch.no_grad():
        model.decoder.final.weight[model.special.eos] = 0.0
    return model


def batch(seconds: Sequence[float], labels: int, model: Recogniser) -> Batch:
    frames = [int(one * FRAMES_PER_SECOND) for one in seconds]
    features = torch.zeros(len(frames), max(frames), MEL_BINS)
    for row, count in enumerate(frames):
        features[row, :count] = torch.randn(count, MEL_BINS)
    ids = torch.randint(4, model.decoder.final.out_features, (len(frames), labels))
    ids[:, -1] = model.special.eos
    counts = Counts(len(frames), len(frames) * labels)
    return Batch([str(row) for row in range(len(frames))], features, torch.tensor(frames), ids, counts).to(
        model.class_weights.device
    )


def training(model: Recogniser, steps: Sequence[Batch], precision: str = "fp32") -> Callable[[], None]:
    model.train()
    optimiser = make_optimiser(model, model.recipe.optimiser)

    def work() -> None:
        for one in steps:
            train_step(model, [one], optimiser, 1e-4, 1.0, precision)

    return work


@pytest.mark.parametrize(("name", "millions"), [("small", 39.8), ("study", 3.2)])
def test_the_models_are_as_large_as_the_published_ones(
    request: pytest.FixtureRequest, name: str, millions: float
) -> None:
    model = request.getfixturevalue(name)
    assert round(sum(one.numel() for one in model.parameters()) / 1e6, 1) == millions


def encoding(model: Recogniser, inputs: Batch) -> Callable[[], Any]:
    model.eval()
    return torch.inference_mode()(lambda: model.encode(inputs.features, inputs.lengths))


def assert_length(nbest: list[list[tuple[list[int], float]]], tokens: int) -> None:
    assert {len(ids) for utterance in nbest for ids, _ in utterance} == {tokens}


@speed
def test_small_training_step_8_x_10_s(small: Recogniser, measure: Measure) -> None:
    measure(training(small, [batch([10.0] * 8, 40, small)]), 80.0, 6.84)


@speed
def test_small_training_step_8_x_10_s_in_bf16(small: Recogniser, measure: Measure) -> None:
    if not has_bf16_units(small.class_weights.device):
        pytest.skip("this processor has no bf16 units: torch computes bf16 products hundreds of times slower than fp32")
    measure(training(small, [batch([10.0] * 8, 40, small)], "bf16"), 80.0, 4.65, torch.bfloat16)


@speed
def test_small_training_step_2_to_16_s_padded_together(small: Recogniser, measure: Measure) -> None:
    measure(training(small, [batch(MIXTURE, 40, small)]), sum(MIXTURE), 12.4)


@speed
def test_small_training_2_to_16_s_in_buckets(small: Recogniser, measure: Measure) -> None:
    """The same utterances eight times over, as eight batches of one length each: seconds are those of eight."""
    steps = [batch([seconds] * 8, 40, small) for seconds in MIXTURE]
    measure(training(small, steps), 8 * sum(MIXTURE), 8 * 12.4, rounds=1)


@speed
def test_small_encoder_8_x_10_s(small: Recogniser, measure: Measure) -> None:
    measure(encoding(small, batch([10.0] * 8, 40, small)), 80.0, 1.39)


@speed
def test_small_greedy_60_tokens_after_that(small: Recogniser, measure: Measure) -> None:
    encoded = encoding(small, batch([10.0] * 8, 40, small))()
    work = torch.inference_mode()(lambda: beam_search(small, encoded, 1, 0.0, 61))
    assert_length(work(), 60)
    measure(work, 80.0, 2.09)


@speed
def test_small_joint_beam_4_of_20_tokens_1_x_10_s(small: Recogniser, measure: Measure) -> None:
    one = batch([10.0], 40, small.eval())

    def work() -> list[list[tuple[list[int], float]]]:
        return decode(small, one.features, one.lengths, beam=4, ctc_weight=0.3, max_length=21)

    assert_length(work(), 20)
    measure(work, 10.0, 2.6)


@speed
def test_small_joint_beam_4_of_20_tokens_after_the_encoder_1_x_10_s(small: Recogniser, measure: Measure) -> None:
    encoded = encoding(small, batch([10.0], 40, small))()
    work = torch.inference_mode()(lambda: beam_search(small, encoded, 4, 0.3, 21))
    assert_length(work(), 20)
    measure(work, 10.0)


@speed
def test_small_joint_beam_8_of_20_tokens_16_x_10_s(small: Recogniser, measure: Measure) -> None:
    """The published seconds are those of 16 utterances one after the other, with a beam of 4."""
    inputs = batch([10.0] * 16, 40, small.eval())

    def work() -> list[list[tuple[list[int], float]]]:
        return decode(small, inputs.features, inputs.lengths, beam=8, ctc_weight=0.3, max_length=21)

    assert_length(work(), 20)
    measure(work, 160.0, 16 * 2.6)


def test_study_training_step_16_x_3_s(study: Recogniser, measure: Measure) -> None:
    measure(training(study, [batch([3.0] * 16, 20, study)]), 48.0, 0.87)


def test_study_encoder_16_x_3_s(study: Recogniser, measure: Measure) -> None:
    measure(encoding(study, batch([3.0] * 16, 20, study)), 48.0, 0.21)


def test_study_encoder_and_greedy_30_tokens_16_x_3_s(study: Recogniser, measure: Measure) -> None:
    inputs = batch([3.0] * 16, 20, study.eval())

    def work() -> list[list[tuple[list[int], float]]]:
        return decode(study, inputs.features, inputs.lengths, max_length=31)

    assert_length(work(), 30)
    measure(work, 48.0, 0.60)
