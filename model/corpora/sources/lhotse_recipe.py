"""Corpora that lhotse has a recipe for, in the folders in which they are published. Nothing is downloaded.

A recipe's parts are sets, named by their keys: `dev-clean`, and `en-train` where there are several languages. A recipe
without parts, or with one, is no division: it is divided into train, dev and test. Files that are missing are findings
where the recipe warns of them; what else it leaves out by itself, it leaves out here too.
"""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from model.corpora.findings import Finding
from model.corpora.source import Segment, Source, collect
from model.corpora.sources.lhotse_items import read_pair
from model.corpora.sources.names import plain_name
from model.corpora.sources.recipe_arguments import bind
from model.errors import UserError
from model.strict import unknown_name

PREFIX = "prepare_"
NO_SUCH_FILE = "No such file: "  # how recipes begin a warning of a file that their lists name and that is not there

_Part = tuple[tuple[str, ...], Iterable[Any], Iterable[Any]]  # keys, recordings, supervisions


def read_lhotse_recipe(recipe: str, folders: Sequence[Path], options: Mapping[str, str], jobs: int = 1) -> Source:
    """The utterances that a recipe makes of `folders`, which are its first parameters; `options` are others of them.

    Raises a UserError where there is no such recipe or parameter, or the recipe does not understand the folders.
    """
    name = recipe.replace("-", "_")
    function = _find(name)
    for folder in folders:
        if not folder.exists():
            raise UserError(f"{folder}: no such folder; give what the recipe {name} reads, as it is published")
    origin = f"lhotse recipe {name} of {', '.join(map(str, folders))}"
    log = _Log(name)
    with tempfile.TemporaryDirectory() as output:
        arguments = bind(name, function, folders, options, jobs, Path(output))
        with _guarded(), _recorded(log):
            try:
                # Sorted, since some recipes have the parts that they find in a set, in another order in every process.
                parts = sorted(_find_parts(function(**arguments)), key=lambda part: part[0])
            except Exception as error:  # recipes raise what they like, and many assert
                reason = " ".join(str(error).split()) or type(error).__name__
                raise UserError(f"{origin}: cannot be read ({reason}); give folders as they are published") from None
        sets = _name_sets(name, parts)
        met = chain.from_iterable(
            _read_part(set_name, part, folders) for set_name, part in zip(sets, parts, strict=True)
        )
        source = collect(plain_name(name), origin, chain(met, log.findings), (), sets)
        if any(Path(output) in Path(segment.audio.file).parents for segment in source.segments):
            raise UserError(f"{origin}: writes audio of its own; give a folder for it, --option output_dir=FOLDER")
    return source


def parse_options(given: Iterable[str]) -> dict[str, str]:
    """Options from `KEY=VALUE`."""
    pairs = [option.partition("=") for option in given]
    for key, equals, value in pairs:
        if not (key and equals):
            raise UserError(f"--option {key}{equals}{value}: must be KEY=VALUE, a parameter of the recipe")
    return {key: value for key, _, value in pairs}


def _find(name: str) -> Callable[..., Any]:
    from lhotse import recipes  # seconds, for nothing else in this package

    known = [one.removeprefix(PREFIX) for one in dir(recipes) if one.startswith(PREFIX)]
    if name not in known:
        raise UserError(f"lhotse has no recipe '{name}'; {unknown_name(name, known)}")
    function: Callable[..., Any] = getattr(recipes, PREFIX + name)
    return function


def _find_parts(result: Any, keys: tuple[str, ...] = ()) -> Iterator[_Part]:
    """The parts in what a recipe returns: a pair, or mappings of any depth that end in recordings and supervisions."""
    if isinstance(result, tuple) and len(result) == 2:
        yield keys, *result
    elif isinstance(result, Mapping) and "recordings" in result:
        yield keys, result["recordings"], result.get("supervisions") or ()
    elif isinstance(result, Mapping):
        for key, value in result.items():
            yield from _find_parts(value, (*keys, str(key)))
    else:
        raise ValueError(f"it makes no recordings of '{'-'.join(keys)}', but {type(result).__name__}")


def _name_sets(name: str, parts: Sequence[_Part]) -> list[str]:
    """The keys of each part without the first ones that all share, such as the only language."""
    keys = [part[0] or (name,) for part in parts]
    while all(len(one) > 1 for one in keys) and len({one[0] for one in keys}) == 1:
        keys = [one[1:] for one in keys]
    return [plain_name("-".join(one)) for one in keys]


def _read_part(set_name: str, part: _Part, folders: Sequence[Path]) -> Iterator[Segment | Finding]:
    _, recordings, supervisions = part
    return read_pair(
        ((f"{set_name} {recording.id}", recording.to_dict()) for recording in recordings),
        ((f"{set_name} {supervision.id}", supervision.to_dict()) for supervision in supervisions),
        set_name,
        (Path.cwd(), *folders),
    )


class _Log(logging.Handler):
    """What a recipe warns of: missing files as findings, all else where warnings go."""

    def __init__(self, recipe: str) -> None:
        super().__init__(logging.WARNING)
        self.recipe = recipe
        self.findings: list[Finding] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(NO_SUCH_FILE):
            self.findings.append(Finding("missing", self.recipe, message.removeprefix(NO_SUCH_FILE)))
        elif logging.lastResort is not None:
            logging.lastResort.handle(record)


@contextmanager
def _recorded(log: _Log) -> Iterator[None]:
    root = logging.getLogger()
    root.addHandler(log)
    try:
        yield
    finally:
        root.removeHandler(log)


@contextmanager
def _guarded() -> Iterator[None]:
    """How a recipe is run: no host is found, and recordings are opened by libsndfile, as in all of this package.

    Some recipes would download what they miss, into the current folder. By default lhotse would leave NIST files to the
    program sph2pipe, and decode them whole.
    """
    from lhotse.audio.backend import get_current_audio_backend, set_current_audio_backend

    def refuse(host: object, *arguments: object, **options: object) -> Any:
        raise ConnectionError(f"it would download from {host}, which is not done here; download it first")

    look_up, backend = socket.getaddrinfo, get_current_audio_backend()
    try:
        socket.getaddrinfo = refuse
        set_current_audio_backend("LibsndfileBackend")
        yield
    finally:
        set_current_audio_backend(backend)
        socket.getaddrinfo = look_up
