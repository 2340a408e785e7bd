"""Baselines: named recipes that a study tries before it samples, to which its other trials are compared.

| name               | auxiliary classifier                            | final weight | CTC weight |
|--------------------|-------------------------------------------------|--------------|------------|
| `ed`               | none                                            | 1            | the base's |
| `decred-paper`     | decoder layer D - 2, weight 0.4                 | 0.6          | 0.3        |
| `decred-published` | decoder layer floor(5 D / 8), weight 0.6        | 0.4          | 0.3        |
| `decred-recipe`    | decoder layer D - 2, weight 0.3                 | 0.7          | 0.3        |
| `interctc`         | none; CTC on encoder layer floor(L / 2) as well | 1            | 0.3        |

D decoder layers and L encoder layers are the base recipe's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from model.errors import UserError
from model.recipe.files import with_values
from model.recipe.recipe import Recipe
from model.strict import unknown_name


def make_baseline(name: str, base: Recipe) -> Recipe:
    """The baseline's recipe: `base` with the loss of the baseline; a UserError where `base` is too shallow for it."""
    if name not in BASELINES:
        raise UserError(f"baseline '{name}' is unknown; {unknown_name(name, BASELINES)}")
    return BASELINES[name](base)


def check_baselines(names: Iterable[str], base: Recipe) -> dict[str, Recipe]:
    """The named baselines as recipes; a UserError for the first that is unknown or does not fit `base`."""
    return {name: make_baseline(name, base) for name in names}


def _make_ed(base: Recipe) -> Recipe:
    """Encoder-decoder with its final classifier alone."""
    return with_values(base, {"loss.auxiliary.placement": [], "loss.auxiliary.weights": []}, "baseline 'ed'")


def _make_decred_paper(base: Recipe) -> Recipe:
    """The default of the paper (arXiv 2508.08938v2, Table VII): decoder layer D - 2 with weight 0.4."""
    return _make_decred(base, "decred-paper", 0.4)


def _make_decred_published(base: Recipe) -> Recipe:
    """The loss of the published base checkpoint: the 5th of 8 decoder layers with weight 0.6.

    No other size is published with this loss. Other depths keep the relative depth, floor(5 D / 8), so that the
    classifier has the same share of the decoder below it; counted from the end, D - 3, it would be on layer 1 of 4.
    """
    layer = 5 * base.decoder.layers // 8
    if layer < 1:
        raise _too_shallow_error("decred-published", "decoder layer floor(5 D / 8)", "decoder", base.decoder.layers, 2)
    return _add_classifier(base, "decred-published", layer, 0.6)


def _make_decred_recipe(base: Recipe) -> Recipe:
    """The loss of the published recipes: the 6th of 8 decoder layers (base) and the 4th of 6 (small), weight 0.3.

    Both are layer D - 2, as in the paper, so other depths have that layer too.
    """
    return _make_decred(base, "decred-recipe", 0.3)


def _make_decred(base: Recipe, name: str, weight: float) -> Recipe:
    """The auxiliary classifier on decoder layer D - 2."""
    if base.decoder.layers < 3:
        raise _too_shallow_error(name, "decoder layer D - 2", "decoder", base.decoder.layers, 3)
    return _add_classifier(base, name, base.decoder.layers - 2, weight)


def _add_classifier(base: Recipe, name: str, layer: int, weight: float) -> Recipe:
    """One auxiliary classifier on a decoder layer; the final classifier has the rest of the weight."""
    values = {"loss.ctc_weight": 0.3, "loss.auxiliary.placement": [layer], "loss.auxiliary.weights": [weight]}
    return with_values(base, values, f"baseline '{name}'")


def _make_interctc(base: Recipe) -> Recipe:
    """Encoder-decoder whose encoder is regularised by InterCTC (arXiv 2102.03216), a competitor of DeCRED.

    As there, the one intermediate loss is on layer floor(L / 2), through the same norm and CTC head, with weight 0.3:
    0.7 L_CTC + 0.3 L_inter. Both together have the CTC weight of `decred-paper`, 0.3.
    """
    layer = base.encoder.layers // 2
    if layer < 1:
        raise _too_shallow_error("interctc", "encoder layer floor(L / 2)", "encoder", base.encoder.layers, 2)
    values = {"loss.ctc_weight": 0.3, "loss.auxiliary.placement": [], "loss.auxiliary.weights": []}
    return with_values(base, values | {"loss.inter_ctc": {"layers": [layer], "weight": 0.3}}, "baseline 'interctc'")


def _too_shallow_error(name: str, layer: str, part: str, layers: int, fewest: int) -> UserError:
    return UserError(
        f"baseline '{name}' has a loss on {layer}, but the {part} has {layers} layer{'s' if layers > 1 else ''}; "
        f"raise {part}.layers to {fewest} or more, or leave the baseline out"
    )


BASELINES: dict[str, Callable[[Recipe], Recipe]] = {
    "ed": _make_ed,
    "decred-paper": _make_decred_paper,
    "decred-published": _make_decred_published,
    "decred-recipe": _make_decred_recipe,
    "interctc": _make_interctc,
}
