"""Baselines: named recipes that every study tries before it samples, so that a gain is a gain over something."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import unknown_name


def baseline(name: str, base: Recipe) -> Recipe:
    """The baseline's recipe: `base` with the loss the baseline stands for."""
    if name not in _BASELINES:
        raise UserError(f"baseline '{name}' is unknown; {unknown_name(name, _BASELINES)}")
    return _BASELINES[name](base)


def check_baselines(names: Iterable[str], base: Recipe) -> dict[str, Recipe]:
    """Every named baseline as a recipe; the first that is unknown or does not fit `base` is a UserError."""
    return {name: baseline(name, base) for name in names}


def _ed(base: Recipe) -> Recipe:
    """Plain encoder-decoder: the final classifier alone."""
    return with_values(base, {"loss.auxiliary.placement": [], "loss.auxiliary.weights": []}, "baseline 'ed'")


def _decred_paper(base: Recipe) -> Recipe:
    """The released DeCRED base model: of 8 layers the 5th carries weight 0.6, the final classifier 0.4, CTC 0.3."""
    layer = 5 * base.decoder.layers // 8
    if layer < 1:
        raise UserError(
            f"baseline 'decred-paper' needs an intermediate decoder layer, but the decoder has {base.decoder.layers} "
            "layers; raise decoder.layers to 2 or more, or leave the baseline out"
        )
    values = {"loss.ctc_weight": 0.3, "loss.auxiliary.placement": [layer], "loss.auxiliary.weights": [0.6]}
    return with_values(base, values, "baseline 'decred-paper'")


def _interctc(base: Recipe) -> Recipe:
    """Plain encoder-decoder, its encoder regularised by InterCTC (arXiv 2102.03216), the rival of DeCRED.

    As there, the one intermediate loss is on the middle layer, floor(L / 2), through the same CTC head. CTC has the
    share of `decred-paper`, 0.3, of which both CTC losses get half.
    """
    layer = base.encoder.layers // 2
    if layer < 1:
        raise UserError(
            f"baseline 'interctc' needs an intermediate encoder layer, but the encoder has {base.encoder.layers}; "
            "raise encoder.layers to 2 or more, or leave the baseline out"
        )
    values = {"loss.ctc_weight": 0.3, "loss.auxiliary.placement": [], "loss.auxiliary.weights": []}
    return with_values(base, values | {"loss.inter_ctc": {"layers": [layer], "weight": 0.5}}, "baseline 'interctc'")


_BASELINES: dict[str, Callable[[Recipe], Recipe]] = {
    "ed": _ed,
    "decred-paper": _decred_paper,
    "interctc": _interctc,
}
