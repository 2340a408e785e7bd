"""The arguments of a lhotse recipe, from folders and `KEY=VALUE`, by its signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.strict import unknown_name

OUTPUT = "output_dir"
NOT_GIVEN_FIRST = (OUTPUT, "sox_path")  # paths that are given by name alone

_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def bind(
    recipe: str,
    function: Callable[..., Any],
    folders: Sequence[Path],
    options: Mapping[str, str],
    jobs: int,
    output: Path,
) -> dict[str, Any]:
    """The arguments by name: `folders` are the parameters for paths that no option names, in their order.

    `output` is for a recipe that needs a folder to write to. Raises a UserError where an argument is unknown, missing
    or of another kind.
    """
    parameters = inspect.signature(function, eval_str=True).parameters
    for name in options:
        if name not in parameters:
            raise UserError(f"--option {name}: recipe {recipe} has no such parameter; {unknown_name(name, parameters)}")
    arguments = {name: _convert(parameters[name], value) for name, value in options.items()}
    places = [one for one in parameters.values() if "Path" in str(one.annotation)]
    places = [one for one in places if one.name not in (*NOT_GIVEN_FIRST, *options)]
    if len(folders) > len(places):
        allowed = ", ".join(one.name for one in places) or "no folder"
        raise UserError(f"recipe {recipe} takes {allowed}, but {len(folders)} folders are given")
    for parameter, folder in zip(places, folders, strict=False):
        arguments[parameter.name] = [folder] if _sequences(_kinds(parameter)) else folder
    if OUTPUT in parameters and parameters[OUTPUT].default is inspect.Parameter.empty:
        arguments.setdefault(OUTPUT, output)
    if "num_jobs" in parameters:
        arguments.setdefault("num_jobs", jobs)
    _check_complete(recipe, parameters.values(), arguments, [one.name for one in places])
    return arguments


def _check_complete(
    recipe: str, parameters: Iterable[inspect.Parameter], arguments: Mapping[str, Any], places: Sequence[str]
) -> None:
    required = [one.name for one in parameters if one.default is inspect.Parameter.empty]
    missing = [name for name in required if name not in arguments]
    if missing and missing[0] in places:
        needed = [name for name in places if name in required]
        raise UserError(f"recipe {recipe} needs {len(needed)} folders: {', '.join(needed)}; give {missing[0]} too")
    if missing:
        raise UserError(f"recipe {recipe} needs {', '.join(missing)}; give --option {missing[0]}=VALUE")


def _convert(parameter: inspect.Parameter, value: str) -> Any:
    """The value as the parameter's annotation has it; a list is written with commas."""
    kinds = _kinds(parameter)
    if type(None) in kinds and value.lower() == "none":
        return None
    try:
        if bool in kinds:
            return _TRUTHS[value.lower()]
        for number in (int, float):
            if number in kinds:
                return number(value)
    except (KeyError, ValueError):
        kind = "true or false" if bool in kinds else "a number"
        raise UserError(f"--option {parameter.name}={value}: must be {kind}") from None
    is_list = "," in value or str not in kinds or isinstance(parameter.default, list | tuple)
    if _sequences(kinds) and is_list:
        return [one for one in value.split(",") if one]
    return Path(value) if Path in kinds else value


def _kinds(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """The types that a parameter may have; by its default where it has no annotation."""
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return (str if parameter.default is inspect.Parameter.empty else type(parameter.default),)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _sequences(kinds: Iterable[Any]) -> bool:
    """Whether one of the types is a list or another sequence of values."""
    origins = [typing.get_origin(kind) for kind in kinds]
    return any(isinstance(origin, type) and issubclass(origin, Iterable) for origin in origins)
