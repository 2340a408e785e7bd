"""Planted surfaces: a WER as a known function of a recipe, on which samplers are compared without any training.

Each shape has its optimum drawn for each seed, away from the paper's default, and its least WER there is `BEST`.
Coordinates are relative to the searched ranges: CTC weight, learning rate and label smoothing in [0, 1]; of the
classifiers their count, the auxiliary ones' weight together (mass), their mean depth weighted by it, and the placement.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from model.recipe.files import named_recipe
from model.recipe.recipe import Recipe
from study.config.search_settings import SearchSettings
from study.search.space import Space

BEST = 10.0  # WER of every surface's optimum
STEEPNESS = 2.0  # at 40 trials with noise 0.3 random sampling then misses the optimum by about 1, TPE by half of it
MOST = 3  # auxiliary classifiers
BASE = named_recipe("small", "speech")  # six decoder layers, as in the paper's Table VII
RANGES = {"ctc": (0.1, 0.7), "rate": (3e-4, 6e-3), "smoothing": (0.0, 0.2)}
SEARCH: dict[str, Any] = {
    "ctc_weight": {"uniform": RANGES["ctc"]},
    "auxiliary": {"count": [0, MOST], "final_weight": [0.3, 0.9]},
    "recipe": {
        "optimiser.learning_rate": {"log_uniform": RANGES["rate"]},
        "loss.label_smoothing": {"uniform": RANGES["smoothing"]},
    },
}
SPACE = Space(SearchSettings.model_validate(SEARCH), BASE)


@dataclass(frozen=True)
class Place:
    """Where a recipe lies on a surface."""

    ctc: float
    rate: float
    smoothing: float
    layers: tuple[int, ...]
    weights: tuple[float, ...]

    @property
    def count(self) -> int:
        return len(self.layers)

    @property
    def mass(self) -> float:
        return sum(self.weights)

    @property
    def depth(self) -> float:
        """0 at the first layer, 1 at the last that may carry an auxiliary classifier."""
        mean = sum(layer * weight for layer, weight in zip(self.layers, self.weights, strict=True)) / self.mass
        return (mean - 1) / (BASE.decoder.layers - 2)


Surface = Callable[[Place], float]


class RandomSource:
    """Uniform draws."""

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return low * (high / low) ** self._generator.random() if log else self._generator.uniform(low, high)

    def integer(self, name: str, low: int, high: int) -> int:
        return self._generator.randint(low, high)

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        return self._generator.choice(values)


def locate(recipe: Recipe) -> Place:
    """The recipe's coordinates."""
    low, high = RANGES["rate"]
    return Place(
        (recipe.loss.ctc_weight - RANGES["ctc"][0]) / (RANGES["ctc"][1] - RANGES["ctc"][0]),
        math.log(recipe.optimiser.learning_rate / low) / math.log(high / low),
        recipe.loss.label_smoothing / RANGES["smoothing"][1],
        tuple(recipe.loss.auxiliary.placement),
        tuple(recipe.loss.auxiliary.weights),
    )


def draw_optimum(generator: random.Random, fewest: int = 0) -> Place:
    """A place of the space with at least so many classifiers, and neither the paper's placement nor its CTC weight."""
    paper = (0.3 - RANGES["ctc"][0]) / (RANGES["ctc"][1] - RANGES["ctc"][0])
    while True:
        place = locate(SPACE.decode(SPACE.suggest(RandomSource(generator))))
        if place.layers != (BASE.decoder.layers - 2,) and abs(place.ctc - paper) > 0.15 and place.count >= fewest:
            return place


def make_bowl(generator: random.Random) -> Surface:
    """Every coordinate has its own parabola, and the count its own steps."""
    best = draw_optimum(generator)

    def bowl(place: Place) -> float:
        both = place.count and best.count
        return (
            BEST
            + 3.0 * (place.ctc - best.ctc) ** 2
            + 5.0 * (place.rate - best.rate) ** 2
            + 0.5 * (place.smoothing - best.smoothing) ** 2
            + 0.3 * abs(place.count - best.count)
            + 3.0 * (place.mass - best.mass) ** 2
            + (2.0 * (place.depth - best.depth) ** 2 if both else 0.0)
        )

    return bowl


def make_valley(generator: random.Random) -> Surface:
    """A narrow valley: CTC weight, mass and depth make up for each other, and the rate follows the CTC weight."""
    best = draw_optimum(generator, fewest=1)

    def valley(place: Place) -> float:
        ctc, mass = place.ctc - best.ctc, place.mass - best.mass
        depth = place.depth - best.depth if place.count else 0.0
        rate = place.rate - best.rate
        across = 10.0 * (ctc + mass) ** 2 + 4.0 * (mass + 0.6 * depth) ** 2 + 6.0 * (rate - 0.5 * ctc) ** 2
        along = 0.8 * (ctc - mass) ** 2 + 0.8 * depth**2 + 0.3 * (place.smoothing - best.smoothing) ** 2
        return BEST + across + along + 0.1 * abs(place.count - best.count)

    return valley


def make_cliff(generator: random.Random) -> Surface:
    """The WER falls with the learning rate up to an edge, beyond which the loss is not finite; the edge moves with the
    CTC weight and the mass, and the optimum lies just before it."""
    best = draw_optimum(generator)

    def cliff(place: Place) -> float:
        ctc, mass = place.ctc - best.ctc, place.mass - best.mass
        edge = best.rate + 0.05 + 0.3 * ctc - 0.3 * mass
        if place.rate > edge:
            return math.nan
        depth = place.depth - best.depth if place.count and best.count else 0.0
        return (
            BEST
            + 2.0 * abs(edge - 0.05 - place.rate)
            + 3.0 * ctc**2
            + 2.0 * mass**2
            + 1.5 * depth**2
            + 0.2 * abs(place.count - best.count)
        )

    return cliff


def make_unordered(generator: random.Random) -> Surface:
    """Every placement has a WER of its own that says nothing about its neighbours'; shares and the rest are smooth."""
    layers, best = range(1, BASE.decoder.layers), draw_optimum(generator, fewest=1)
    worth = {layer: generator.random() for layer in layers}
    together = {
        subset: 1.2 * sum(worth[layer] for layer in subset) / max(count, 1) + 0.4 * generator.random()
        for count in range(MOST + 1)
        for subset in itertools.combinations(layers, count)
    }
    most = max(together.values())

    def unordered(place: Place) -> float:
        shares = [weight / place.mass for weight in place.weights]
        uneven = sum((share - 1 / place.count) ** 2 for share in shares)
        return (
            BEST
            + most
            - together[place.layers]
            + 0.8 * uneven
            + (2.0 * (place.mass - best.mass) ** 2 if place.count else 0.0)
            + 3.0 * (place.ctc - best.ctc) ** 2
            + 4.0 * (place.rate - best.rate) ** 2
        )

    return unordered


def make_basins(generator: random.Random) -> Surface:
    """A broad basin without classifiers that ends 0.5 above the optimum, and a narrow one that has some."""
    broad, best = draw_optimum(generator), draw_optimum(generator, fewest=1)

    def basins(place: Place) -> float:
        wide = 0.5 + 2.0 * ((place.ctc - broad.ctc) ** 2 + (place.rate - broad.rate) ** 2 + place.mass**2)
        if not place.count:
            return BEST + wide
        narrow = (
            (place.ctc - best.ctc) ** 2
            + (place.rate - best.rate) ** 2
            + (place.mass - best.mass) ** 2
            + 0.7 * (place.depth - best.depth) ** 2
        )
        return BEST + min(wide, 6.0 * narrow + 0.15 * abs(place.count - best.count))

    return basins


def make_flat(generator: random.Random) -> Surface:
    """Nearly flat: 0.2 WER from one end of the learning rate to the other, less than the noise."""
    sign = generator.choice((-1, 1))
    return lambda place: BEST + 0.2 * (place.rate if sign > 0 else 1.0 - place.rate)


SHAPES: dict[str, Callable[[random.Random], Surface]] = {
    "bowl": make_bowl,
    "valley": make_valley,
    "cliff": make_cliff,
    "unordered": make_unordered,
    "basins": make_basins,
    "flat": make_flat,
}


def make_surface(shape: str, seed: int) -> Surface:
    """The shape with the optimum that the seed draws, as steep as the effects in the paper's Table VII."""
    surface = SHAPES[shape](random.Random(f"{shape} {seed}"))
    steepness = 1.0 if shape == "flat" else STEEPNESS
    return lambda place: BEST + steepness * (surface(place) - BEST)
