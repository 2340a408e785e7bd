"""Frozen, strict values read from YAML with errors of one line, and files written so that they survive a crash."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import os
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from model.errors import UserError


class Strict(BaseModel):
    """A frozen value; unknown keys and numbers that are not finite are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


T = TypeVar("T", bound=BaseModel)


def validate(kind: type[T], data: Mapping[str, Any], source: str) -> T:
    """`data` as a `kind`; where it is wrong, a UserError names `source`, the first wrong key and what is allowed."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{source}: {_one_line(kind, error.errors()[0])}") from None


class _UniqueKeys(yaml.constructor.SafeConstructor):
    """YAML in which a key that is given twice is an error; the standard loader silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Loader(_UniqueKeys, yaml.SafeLoader):
    """The one of Python, whose errors users know."""


class _FastLoader(_UniqueKeys, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The one of libyaml where it is there, several times as fast."""


def load_yaml(text: str) -> Any:
    """What a text of YAML holds. A YAMLError where it is none, or gives a key twice."""
    try:
        return yaml.load(text, _FastLoader)
    except yaml.YAMLError:
        return yaml.load(text, _Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; a file that is missing, not UTF-8, not YAML or not a mapping is a UserError."""
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason}); give the path of a YAML file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: holds {type(data).__name__}, but must be a mapping of keys to values")
    return data


def to_yaml(value: BaseModel) -> str:
    """The value as YAML, keys in the order of their definition."""
    return yaml.safe_dump(value.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def file_fingerprint(path: Path, instead: str = "give a file that is there") -> str:
    """Content hash of a file: 16 hex digits of SHA-256. A file that cannot be read is a UserError, with what to do."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {instead}") from None


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or whoever comes after a crash, finds the old content or the new one, whole.

    Once this returns, the new content survives a power cut. Missing folders are made. A UserError where it cannot
    be written, with the OSError as its cause, from which callers recognise a full disk.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give a place that can be") from error


def replace_file(path: Path, content: str | bytes) -> None:
    """`write_atomically` for callers that have a message of their own: it raises the OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        make_folders(path.parent)
        with draft.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())  # before its name: a power cut must not leave the name with nothing in it
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):  # on a full disk half a file would take the space that is left
            draft.unlink()
        raise


def sync_file(path: Path) -> None:
    """Make the content of a file that another library wrote survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in the folder durable: a file that was created, renamed or removed stays so after a power cut."""
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder
        sync_file(folder)


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing; their names then survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # it is a file
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    for folder in missing:
        sync_folder(folder.parent)


def unknown_name(given: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, or all known ones where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"


def _one_line(kind: type[BaseModel], error: ErrorDetails) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        parent = _model_at(kind, error["loc"][:-1])
        return f"unknown key '{place}'; {unknown_name(str(error['loc'][-1]), parent.model_fields)}"
    if error["type"] == "missing":
        return f"'{place}' is missing; add it"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{place}: {message}" if place else message
    return f"'{place}' is {error['input']!r}; {message[0].lower()}{message[1:]}"


def _model_at(kind: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    for part in loc:
        if isinstance(part, str) and part in kind.model_fields:
            kind = next(_models_in(kind.model_fields[part].annotation), kind)
    return kind


def _models_in(annotation: Any) -> typing.Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
