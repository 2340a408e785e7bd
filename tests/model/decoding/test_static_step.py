"""A step in tensors that stay where they are gives the logits of the decoder's own, whatever the search does."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.decoding import decoder_steps
from model.decoding.beam_search import decode
from model.decoding.decoder_steps import Graphs, PlainSteps, agrees, count_bytes, keep_graphs, open_steps
from model.decoding.static_step import ROOM, TOKENS, Shape, StaticStep, StaticSteps
from model.network.decoder import CrossAttentionMemory, Decoder
from model.network.recogniser import Recogniser
from model.recipe.architecture import DecoderConfig

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def make_decoder() -> Decoder:
    torch.manual_seed(7)
    config = DecoderConfig(layers=2, width=16, heads=2, feed_forward=32, dropout=0.1, project_encoder=False)
    decoder = Decoder(config, (1,), 16, 11).eval()
    for parameter in decoder.parameters():  # spread the logits, so that hypotheses differ clearly
        torch.nn.init.normal_(parameter, std=0.3)
    return decoder


def make_memory(decoder: Decoder, generator: torch.Generator, utterances: int, frames: int) -> CrossAttentionMemory:
    lengths = torch.randint(1, frames + 1, (utterances, 1), generator=generator)
    states = torch.randn(utterances, frames, 16, generator=generator)
    return decoder.prepare_memory(states, torch.arange(frames) < lengths)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return make_decoder()


class Shapes:
    """Static steps by their shapes, each made once, as a search finds those of the searches before."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder, self.made = decoder, dict[Shape, StaticStep]()

    def get(self, shape: Shape) -> StaticStep:
        if shape not in self.made:
            self.made[shape] = StaticStep(self.decoder, shape)
        return self.made[shape]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    utterances=st.integers(1, 9),
    beam=st.integers(1, 4),
    frames=st.integers(1, 70),
    tokens=st.integers(1, TOKENS + ROOM + 3),
    leaving=st.floats(0.0, 0.1),
    mixing=st.booleans(),
)
@torch.no_grad()
def test_logits_are_those_of_the_decoders_own_steps_whichever_hypotheses_go_on(
    decoder: Decoder, seed: int, utterances: int, beam: int, frames: int, tokens: int, leaving: float, mixing: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    decoder.mixing = torch.tensor([0.4, 0.6]) if mixing else None
    memory = make_memory(decoder, generator, utterances, frames)
    plain, static = PlainSteps(decoder, memory, beam), StaticSteps(Shapes(decoder).get, memory, beam)
    for _ in range(tokens):
        ids = torch.randint(11, (utterances, beam), generator=generator)
        torch.testing.assert_close(static.step(ids), plain.step(ids), **CLOSE)
        going_on = [one for one in range(utterances) if one == 0 or torch.rand((), generator=generator) >= leaving]
        continued = torch.randint(beam, (len(going_on), beam), generator=generator)
        rows = (continued + beam * torch.tensor(going_on)[:, None]).flatten()
        some = torch.tensor(going_on) if len(going_on) < utterances else None
        plain.select(rows, some)
        static.select(rows, some)
        utterances = len(going_on)


@torch.no_grad()
def test_a_long_search_in_which_all_hypotheses_stay_apart_gets_more_room(decoder: Decoder) -> None:
    decoder.mixing, shapes = None, Shapes(decoder)
    memory = make_memory(decoder, torch.Generator().manual_seed(0), 2, 20)
    plain, static = PlainSteps(decoder, memory, 3), StaticSteps(shapes.get, memory, 3)
    for number in range(2 * TOKENS + 5):
        ids = torch.tensor([[number, number + 1, number + 2]] * 2) % 11
        torch.testing.assert_close(static.step(ids), plain.step(ids), **CLOSE)
    assert [shape.entries for shape in shapes.made] == [3 * TOKENS, 6 * TOKENS, 12 * TOKENS]


@torch.no_grad()
def test_a_search_whose_hypotheses_share_their_tokens_stays_in_the_same_step(decoder: Decoder) -> None:
    shapes, first = Shapes(decoder), torch.zeros(4, dtype=torch.long)
    steps = StaticSteps(shapes.get, make_memory(decoder, torch.Generator().manual_seed(0), 1, 20), 4)
    for _ in range(3 * TOKENS):
        steps.step(torch.ones(1, 4, dtype=torch.long))
        steps.select(first, None)  # all continue the first
    assert len(shapes.made) <= 2
    assert max(shape.entries for shape in shapes.made) <= 8 * TOKENS


@torch.no_grad()
def test_searches_of_like_sizes_share_a_step_and_find_nothing_of_each_other(decoder: Decoder) -> None:
    shapes, generator = Shapes(decoder), torch.Generator().manual_seed(3)
    for utterances, frames in ((8, 60), (5, 33), (7, 64)):
        memory = make_memory(decoder, generator, utterances, frames)
        plain, static = PlainSteps(decoder, memory, 2), StaticSteps(shapes.get, memory, 2)
        for _ in range(3):
            ids = torch.randint(11, (utterances, 2), generator=generator)
            torch.testing.assert_close(static.step(ids), plain.step(ids), **CLOSE)
        next(iter(shapes.made.values())).caches[0].values.fill_(math.nan)  # as a search with broken weights leaves it
    assert list(shapes.made) == [Shape(8, 2, 2 * TOKENS, 64)]


@pytest.fixture
def static(monkeypatch: pytest.MonkeyPatch) -> list[Shape]:
    """Let searches take static steps, without graphs; the shapes that they took."""
    shapes: list[Shape] = []

    def get(decoder: Decoder, shape: Shape) -> StaticStep:
        shapes.append(shape)
        return StaticStep(decoder, shape)

    def open_static(decoder: Decoder, memory: CrossAttentionMemory, beam: int) -> StaticSteps:
        return StaticSteps(functools.partial(get, decoder), memory, beam)

    monkeypatch.setattr("model.decoding.beam_search.open_steps", open_static)
    return shapes


@pytest.fixture
def model(make_recipe: Callable) -> Recogniser:
    torch.manual_seed(5)
    model = Recogniser(make_recipe()).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        model.decoder.final.weight[model.special.eos] = -1.0  # hypotheses run into their limits
    return model


FEATURES, LENGTHS = torch.randn(5, 240, 80, generator=torch.Generator().manual_seed(0)), [240, 177, 120, 77, 40]


@pytest.mark.parametrize(("beam", "ctc_weight"), [(1, 0.0), (4, 0.0), (4, 0.3)])
def test_a_search_by_static_steps_finds_what_the_plain_one_finds(
    model: Recogniser, request: pytest.FixtureRequest, beam: int, ctc_weight: float
) -> None:
    expected = decode(model, FEATURES, torch.tensor(LENGTHS), beam, ctc_weight)
    shapes = request.getfixturevalue("static")
    found = decode(model, FEATURES, torch.tensor(LENGTHS), beam, ctc_weight)
    for ours, theirs in zip(found, expected, strict=True):
        assert [tokens for tokens, _ in ours] == [tokens for tokens, _ in theirs]
        assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], abs=1e-4)
    assert len({shape.utterances for shape in shapes}) > 1, "utterances that had ended left the batch"


def test_on_a_cpu_and_outside_of_scoring_no_step_is_captured(decoder: Decoder) -> None:
    memory = make_memory(decoder, torch.Generator().manual_seed(0), 2, 20)
    assert isinstance(open_steps(decoder, memory, 1), PlainSteps)
    with keep_graphs():
        assert isinstance(open_steps(decoder, memory, 1), PlainSteps)


class Replayed(StaticStep):
    """Stands for a captured step: it is kept by its graph's owner, and counts."""

    made: list[Shape]

    def __init__(self, decoder: Decoder, shape: Shape) -> None:
        super().__init__(decoder, shape)
        type(self).made.append(shape)


class Wrong(Replayed):
    def run(self) -> Tensor:
        return super().run() + 0.1


class Failing(Replayed):
    def __init__(self, decoder: Decoder, shape: Shape) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing. Compile with\nTORCH_USE")


@pytest.fixture(autouse=True)
def forget_captures() -> None:
    Replayed.made = []
    decoder_steps.warn_of_capture.cache_clear()


def test_a_graph_is_captured_once_for_each_shape_and_dropped_with_other_weights_or_for_want_of_room(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = Graphs(Replayed)
    one, two, three = (Shape(count, 1, TOKENS, 64) for count in (1, 2, 4))
    memory = make_memory(decoder, torch.Generator().manual_seed(0), 1, 20)
    for _ in range(2):
        graphs.open(decoder, memory, 1)
    assert Replayed.made == [one]
    monkeypatch.setattr(decoder_steps, "MOST_BYTES", count_bytes(decoder, one) + count_bytes(decoder, three))
    for shape in (two, one, three):  # for the last one, the one that was not used for longest makes room
        graphs.get(decoder, shape)
    assert graphs.get(decoder, one) is graphs.get(decoder, one)
    assert Replayed.made == [one, two, three]
    monkeypatch.setattr(decoder_steps, "MOST_BYTES", 1)
    assert type(graphs.get(decoder, Shape(8, 1, TOKENS, 64))) is StaticStep, "larger than all of the room"
    decoder.mixing = torch.tensor([0.5, 0.5])
    monkeypatch.undo()
    graphs.open(decoder, memory, 1)
    assert Replayed.made[-2:] == [three, one]


@pytest.mark.parametrize(
    ("capture", "reason"),
    [(Wrong, "it computed other logits"), (Failing, "CUDA error: operation not permitted when stream is capturing")],
)
def test_after_a_capture_that_failed_the_search_goes_on_without(
    decoder: Decoder, capture: type[Replayed], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = Graphs(capture)
    memory = make_memory(decoder, torch.Generator().manual_seed(0), 3, 20)
    with caplog.at_level(logging.WARNING, "model"), torch.no_grad():
        static, plain = graphs.open(decoder, memory, 2), PlainSteps(decoder, memory, 2)
        for _ in range(TOKENS + 1):
            ids = torch.ones(3, 2, dtype=torch.long)
            torch.testing.assert_close(static.step(ids), plain.step(ids), **CLOSE)
    assert graphs.has_failed
    assert len(Replayed.made) <= 1, "it is not tried again"
    (message,) = [record.message for record in caplog.records]
    assert message == f"decoding goes on without CUDA graphs: a capture failed ({reason})"


@pytest.mark.parametrize("kind", [StaticStep, Wrong])
def test_a_step_is_compared_with_what_it_computes_uncaptured(decoder: Decoder, kind: type[StaticStep]) -> None:
    assert agrees(kind(decoder, Shape(2, 3, 3 * TOKENS, 64))) is (kind is StaticStep)
