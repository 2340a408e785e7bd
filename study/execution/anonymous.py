"""What a bundle says nothing of: places on the disks of those who ran a study, their machines, passwords, speakers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.config.tracking_uri import mask_text, mask_uri
from study.ledger.ledger import Ledger

# An absolute path of two parts and more; what begins within a word, an URL or a tag is none.
_PATH = re.compile(r"(?<![\w.:/~<>$}*)-])(?:/[^\s/\"'`,;:()\[\]{}<>|*?\\=&]+){2,}/?")
_FILE_URI = re.compile(r"\b(sqlite|file):/{2,4}[^\s\"'`,;<>]+")
_NODES = ("node", "host")  # keys whose values are names of machines


class Anonymiser:
    """Replaces paths by their last part, machines and speakers by numbers, and passwords by ***.

    The same name gets the same number everywhere.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._tracking = ledger.study.tracking or ""
        study, recipe = ledger.study, ledger.base_recipe
        given = [study.corpus, study.storage, study.recipe.base, study.search.prior, recipe.data.corpus]
        given += [recipe.init_from, recipe.tokenizer.file, recipe.decoding.lm]
        given += [str(ledger.folder.resolve()), sys.prefix, str(Path.home())]
        folders = {path.rstrip("/") for path in given if path and Path(path).is_absolute()} - {""}
        self._folders = sorted(folders, key=len, reverse=True)
        self._names: dict[str, dict[str, str]] = {"node": {}, "speaker": {}}

    def clean(self, text: str) -> str:
        """A text without paths and passwords."""
        text = _FILE_URI.sub(lambda match: f"{match[1]}:///{_shorten(match[0])}", mask_text(text, self._tracking))
        for folder in self._folders:
            text = re.sub(rf"(?<![\w.~-]){re.escape(folder)}(?![\w.-])", _shorten(folder), text)
        return _PATH.sub(lambda match: _shorten(match[0]), text)

    def clean_uri(self, uri: str | None) -> str | None:
        """A tracking URI without password and path."""
        return None if uri is None else self.clean(mask_uri(uri))

    def clean_json(self, value: Any, key: str = "") -> Any:
        """The same of JSON types, with numbers for the names of machines."""
        if isinstance(value, Mapping):
            return {name: self.clean_json(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [self.clean_json(part, key) for part in value]
        if not isinstance(value, str):
            return value
        return self.number("node", value) if key in _NODES and value else self.clean(value)

    def clean_utterance(self, line: str) -> str:
        """A scored utterance without its texts; counts, likelihoods, set and a number for the speaker stay."""
        content = {key: value for key, value in json.loads(line).items() if key not in ("reference", "hypothesis")}
        if content.get("speaker"):
            content["speaker"] = self.number("speaker", content["speaker"])
        return json.dumps(content, ensure_ascii=False)

    def number(self, kind: str, name: str) -> str:
        """The same number for the same name."""
        names = self._names[kind]
        return names.setdefault(name, f"{kind}-{len(names) + 1:03d}")


def _shorten(path: str) -> str:
    return f".../{Path(path.rstrip('/')).name}"
