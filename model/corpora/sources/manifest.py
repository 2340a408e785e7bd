"""Lhotse manifests: cuts, recordings with their supervisions, and Shar folders. Each is a set, named after its file.

The set of `cuts_train.jsonl.gz` is `train`, that of `libri_recordings_dev-clean.jsonl.gz`, with the supervisions of
that name, is `dev-clean`; what comes first is named only where it differs between sets. A Shar folder's has its name.
Paths in a manifest are relative to the current folder, as for lhotse, or where that has no such file to the manifest's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.corpora.findings import Finding
from model.corpora.source import Segment, Source, collect
from model.corpora.sources.json_lines import SUFFIXES, read_first, read_lines
from model.corpora.sources.lhotse_items import Item, read_cut, read_pair, read_recording, understood
from model.corpora.sources.names import plain_name
from model.corpora.sources.shar import is_shar, list_shards, read_shar
from model.errors import UserError

PAIR = {"recordings", "supervisions"}


@dataclass
class _Set:
    """A set's manifests by their kind: cuts, recordings, supervisions or shar; and the parts of its name."""

    prefix: str
    name: str
    paths: dict[str, Path] = field(default_factory=dict)


def read_manifests(paths: Sequence[Path]) -> Source:
    """The utterances of manifests, given as files, or as folders of them. Raises a UserError where one is malformed."""
    found = [one for path in paths for one in _find(path)]
    sets = _group(found)
    names = _name_sets(sets)
    met = (one for group, name in zip(sets, names, strict=True) for one in _read(group, name))
    files = [file for kind, path in found for file in (list_shards(path) if kind == "shar" else [path])]
    first = paths[0].resolve()
    folder = first if first.is_dir() and not is_shar(first) else first.parent
    return collect(plain_name(folder.name), f"manifests in {', '.join(map(str, paths))}", met, files, names)


def _find(path: Path) -> Iterator[tuple[str, Path]]:
    """The manifests that a path names, each with its kind. In a folder, files of other kinds are left alone."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give a lhotse manifest, or a folder of them")
    if not path.is_dir():
        kind = _kind(path)
        if kind is None:
            raise UserError(f"{path}: holds neither cuts nor recordings nor supervisions; give a manifest that does")
        yield kind, path
        return
    if is_shar(path):
        yield "shar", path
        return
    files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES) and file.is_file())
    found = [(kind, file) for file in files if (kind := _kind(file)) is not None]
    found += [("shar", folder) for folder in sorted(path.iterdir()) if folder.is_dir() and is_shar(folder)]
    if not found:
        raise UserError(f"{path}: holds no lhotse manifest; give a folder with files {' or '.join(SUFFIXES)}, or Shar")
    yield from found


def _kind(path: Path) -> str | None:
    """By what its first item has, as lhotse distinguishes them."""
    item = read_first(path)
    if str(item.get("type")).endswith("Cut"):
        return "cuts"
    if "sources" in item:
        return "recordings"
    return "supervisions" if "recording_id" in item and "type" not in item else None


def _group(found: Sequence[tuple[str, Path]]) -> list[_Set]:
    """The manifests by set: what has the same folder and name belongs together."""
    sets: dict[tuple[Path, str, str], _Set] = {}
    for kind, path in found:
        prefix, name = ("", path.resolve().name) if kind == "shar" else _split_name(path.name)
        group = sets.setdefault((path.parent, prefix, name), _Set(prefix, name))
        if kind in group.paths or (group.paths and kind not in PAIR) or not group.paths.keys() <= PAIR:
            before = next(iter(group.paths.values()))
            raise UserError(f"{before} and {path} are the same set; give the files of one of them")
        group.paths[kind] = path
    for group in sets.values():
        missing = PAIR - group.paths.keys()
        if len(missing) == 1:
            path = next(iter(group.paths.values()))
            raise UserError(f"{path}: its {missing.pop()} are missing; give the two together, or a folder with both")
    return list(sets.values())


def _split_name(name: str) -> tuple[str, str]:
    """What a file's name has before and after its kind; before it alone where nothing comes after."""
    stem = next(name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix))
    match = re.fullmatch(r"(?:(.*)[_.-])?(?:cuts|recordings|supervisions)(?:[_.-](.*))?", stem)
    if not match:
        return "", stem
    before, after = match.groups()
    return (before or "", after) if after else ("", before or stem)


def _name_sets(sets: Sequence[_Set]) -> list[str]:
    differ = len({group.prefix for group in sets}) > 1
    names = [plain_name("_".join(filter(None, (group.prefix if differ else "", group.name)))) for group in sets]
    for number, name in enumerate(names):
        if name in names[:number]:
            paths = [next(iter(sets[index].paths.values())) for index in (names.index(name), number)]
            raise UserError(f"{paths[0]} and {paths[1]} would both be set '{name}'; rename one of them")
    return names


def _read(group: _Set, set_name: str) -> Iterator[Segment | Finding]:
    paths = group.paths
    if "shar" in paths:
        yield from read_shar(paths["shar"], set_name)
    elif "cuts" in paths:
        folders = (Path.cwd(), paths["cuts"].resolve().parent)
        for place, item in read_lines(paths["cuts"]):
            with understood(place):
                yield from _read_cut(place, item, set_name, folders)
    else:
        folders = (Path.cwd(), paths["recordings"].resolve().parent)
        yield from read_pair(read_lines(paths["recordings"]), read_lines(paths["supervisions"]), set_name, folders)


def _read_cut(place: str, cut: Item, set_name: str, folders: Sequence[Path]) -> Iterator[Segment | Finding]:
    recording = cut.get("recording")
    return read_cut(place, cut, read_recording(recording, folders) if recording else None, set_name)
