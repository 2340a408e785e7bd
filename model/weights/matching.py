"""Which of a model's tensors are taken from other weights, by name, as a recipe's `initialisation` has it.

Names are those of the state dict, but for auxiliary classifiers, which are named after the decoder layer that they are
on (1 = first): `decoder.auxiliary.layer_3.weight`. No values are read here, so that a wrong `initialisation` is found
before anything starts.
"""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from model.errors import UserError
from model.network.making import make_model
from model.network.recogniser import Recogniser
from model.recipe.files import value_at
from model.recipe.recipe import Recipe

Shape = tuple[int, ...]

_LACKED = "these weights have none"
_OR_LEAVE = ", or set initialisation.unfit to leave"
_AUXILIARY = "decoder.auxiliary.layer_%d.weight"
# Recipe keys that change what tensors mean without changing a shape, and the tensors.
_HEADS = {part: re.compile(rf"{part}\.layers\.\d+\.(cross_)?attention\..+") for part in ("encoder", "decoder")}
_OF_CTC = re.compile(r"ctc\.1\.(weight|bias)")
_OF_TOKENS = re.compile(r"decoder\.(embedding|final|auxiliary\.layer_\d+)\.weight")
_MEANINGS = {
    "decoder.heads": (_HEADS["decoder"],),
    "encoder.heads": (_HEADS["encoder"],),
    "tokenizer.special.bos": (_OF_TOKENS,),
    "tokenizer.special.eos": (_OF_TOKENS, _OF_CTC),
    "tokenizer.special.pad": (_OF_TOKENS,),
    "tokenizer.special.blank": (_OF_CTC,),
}


@dataclass(frozen=True)
class Tensors:
    """Names and shapes of a model's tensors, and the recipe that it is built from."""

    recipe: Recipe
    shapes: dict[str, Shape]


@dataclass
class Matching:
    """`taken`: tensor of the model -> that of the weights; `fresh`: the model's others -> why; `unused`: theirs."""

    taken: dict[str, str] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Misfit:
    """Why a tensor cannot be taken; `error` refuses it, the lowest `rank` first."""

    rank: int
    reason: str
    error: str


def name_tensors(names: Iterable[str], placement: tuple[int, ...]) -> dict[str, str]:
    """Names as in patterns -> those of the state dict of a model with classifiers on these layers."""
    auxiliary = {f"decoder.auxiliary.{index}.weight": _AUXILIARY % layer for index, layer in enumerate(placement)}
    return {auxiliary.get(name, name): name for name in names}


def list_tensors(recipe: Recipe, model: Recogniser | None = None) -> Tensors:
    """The tensors of the recipe's model; without the model, no memory is taken for them."""
    if model is None:
        with torch.device("meta"):
            model = make_model(recipe)
    state = model.state_dict()
    names = name_tensors(state, recipe.loss.auxiliary.placement)
    return Tensors(recipe, {name: tuple(state[own].shape) for name, own in names.items()})


def find_vocabulary(name: str) -> str | None:
    """What the rows of a tensor are of: the decoder's `tokens`, the classes of `ctc`, or None for neither."""
    if _OF_TOKENS.fullmatch(name):
        return "tokens"
    return "ctc" if _OF_CTC.fullmatch(name) else None


def match_tensors(ours: Tensors, theirs: Tensors, place: str) -> Matching:
    """What the `initialisation` of our recipe takes of their tensors.

    Raises a UserError, which begins with `place`, for a pattern that matches nothing, where nothing would be taken,
    and with `unfit` refuse for the first tensor that does not fit.
    """
    settings = ours.recipe.initialisation
    offered = _rename(theirs.shapes, settings.rename, place)
    _refuse_idle_patterns(ours, theirs, offered, place)
    found, misfits = Matching(), list[_Misfit]()
    for name in ours.shapes:
        if reason := _find_exclusion(name, ours.recipe):
            found.fresh[name] = reason
        elif _is_auxiliary(name) and name not in offered:
            found.fresh[name] = _LACKED  # no misfit: where classifiers are is what studies search
        elif misfit := _find_misfit(name, offered.get(name), ours, theirs):
            misfits.append(misfit)
            found.fresh[name] = misfit.reason
        else:
            found.taken[name] = offered[name]
    misfits += _list_unplaced(ours, offered)
    if misfits and settings.unfit == "refuse":
        first = min(misfits, key=lambda misfit: misfit.rank)  # of equals the first one
        raise UserError(f"{place}: {first.error}")
    if settings.take and not found.taken:
        name, reason = next(iter(found.fresh.items()))
        raise UserError(
            f"{place}: initialisation takes none of its tensors ('{name}': {reason}); widen take, or set it to [] to "
            "start from nothing"
        )
    used = set(found.taken.values())
    found.unused = [name for name in theirs.shapes if name not in used]
    return found


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _is_auxiliary(name: str) -> bool:
    return name.startswith("decoder.auxiliary.")


def _rename(shapes: Mapping[str, Shape], pairs: Iterable[tuple[str, str]], place: str) -> dict[str, str]:
    """The name that each of their tensors has here -> its own name. What is renamed goes before what has a name."""
    renamed: dict[str, str] = {}
    moved: set[str] = set()
    for pattern, replacement in pairs:
        stars, texts = re.compile(re.escape(pattern).replace(r"\*", "(.*)")), replacement.split("*")
        for name in shapes:
            if (match := stars.fullmatch(name)) is None:
                continue
            here = "".join(itertools.chain(*itertools.zip_longest(texts, match.groups(), fillvalue="")))
            if renamed.setdefault(here, name) != name:
                raise UserError(
                    f"{place}: initialisation.rename gives '{renamed[here]}' and '{name}' the same name, '{here}'; "
                    "narrow one of the patterns"
                )
            moved.add(name)
    return {name: name for name in shapes if name not in moved} | renamed


def _find_exclusion(name: str, recipe: Recipe) -> str | None:
    """Why the recipe does not ask for a tensor; None where it does."""
    settings = recipe.initialisation
    if not _matches(name, settings.take):
        return "not in initialisation.take"
    if _matches(name, settings.leave):
        return "in initialisation.leave"
    if settings.vocabulary == "leave" and find_vocabulary(name):
        return "initialisation.vocabulary is leave"
    return None


def _find_misfit(name: str, source: str | None, ours: Tensors, theirs: Tensors) -> _Misfit | None:
    """Why their tensor `source` cannot become ours of this name; None where it can."""
    if source is None:
        error = f"holds no tensor '{name}', which the recipe's model needs; give it the same layers{_OR_LEAVE}"
        return _Misfit(2, _LACKED, error)
    for key in _list_meanings(name, ours.recipe):
        mine, given = (json.dumps(value_at(tensors.recipe, key)) for tensors in (ours, theirs))
        if mine != given:
            error = f"was trained with {key} {given}, but the recipe has {mine}; set it to {given}{_OR_LEAVE}"
            return _Misfit(0, f"{key} is {mine}, there {given}", error)
    shape, there = ours.shapes[name], theirs.shapes[source]
    rows = find_vocabulary(name) if ours.recipe.initialisation.vocabulary == "by_piece" else None
    if rows is not None and rows != find_vocabulary(source):
        error = f"tensor '{source}' has no rows for the pieces of '{name}'; leave it out of initialisation.rename"
        return _Misfit(2, "no rows of such pieces there", error)
    if (shape if rows is None else shape[1:]) == (there if rows is None else there[1:]):
        return None
    error = (
        f"tensor '{source}' has shape {there}, but the recipe's model needs {shape}; give the recipe the sizes of "
        f"these weights{_OR_LEAVE}"
    )
    return _Misfit(2, f"shape {shape}, there {there}", error)


def _list_meanings(name: str, recipe: Recipe) -> list[str]:
    """The keys in which both recipes must agree for a tensor to mean the same."""
    keys = [key for key, patterns in _MEANINGS.items() if any(pattern.fullmatch(name) for pattern in patterns)]
    return [key for key in keys if key.endswith(".heads") or recipe.initialisation.vocabulary == "by_id"]


def _list_unplaced(ours: Tensors, offered: Mapping[str, str]) -> list[_Misfit]:
    """Their tensors that the recipe asks for and its model lacks, by name; classifiers may be on other layers."""
    names = [name for name in offered.keys() - ours.shapes.keys() if not _is_auxiliary(name)]
    error = "the recipe's model has no place for tensor '%s'; give it the same layers" + _OR_LEAVE
    return [_Misfit(1, "", error % name) for name in sorted(names) if not _find_exclusion(name, ours.recipe)]


def _refuse_idle_patterns(ours: Tensors, theirs: Tensors, offered: Mapping[str, str], place: str) -> None:
    """A UserError for the first pattern that matches nothing on either side, with a near name.

    Classifiers count on every layer that may have one: a study searches where they are, with the same patterns.
    """
    settings, layers = ours.recipe.initialisation, max(ours.recipe.decoder.layers, theirs.recipe.decoder.layers)
    possible = {_AUXILIARY % layer for layer in range(1, layers)}
    here, there = {*ours.shapes, *possible}, {*theirs.shapes, *possible}
    patterns = [
        (key, pattern, here | offered.keys()) for key in ("take", "leave") for pattern in getattr(settings, key)
    ]
    for given, taken in settings.rename:
        patterns += [("rename", given, there), ("rename", taken, here)]
    for key, pattern, names in patterns:
        if not any(_matches(name, [pattern]) for name in names):
            near = _name_near(pattern, names & {*ours.shapes, *offered, *theirs.shapes})
            raise UserError(f"{place}: initialisation.{key} has '{pattern}', which matches no tensor; {near}")


def _name_near(pattern: str, names: Iterable[str]) -> str:
    """The nearest name, or pattern of names with a common beginning; where none is near, the widest patterns."""
    parts = [name.split(".") for name in names]
    groups = {".".join([*name[:depth], "*"]) for name in parts for depth in range(1, len(name))}
    near = difflib.get_close_matches(pattern, sorted(groups.union(names)), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(sorted({f'{name[0]}.*' for name in parts}))}"
