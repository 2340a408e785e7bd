"""The module in which a recipe's own network is defined: found, identified by its content, and imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from model.errors import UserError
from model.recipe.custom_model import CustomModelConfig
from model.strict import file_fingerprint, unknown_name

_imported: dict[str, str] = {}  # module -> the content that it was imported with: a process may outlive an edit


def fingerprint_source(config: CustomModelConfig) -> str:
    """Content hash of the module's file: 16 hex digits of SHA-256. A UserError where there is no such file."""
    return file_fingerprint(find_source(config), "give custom_model.factory a module in a Python file")


def find_source(config: CustomModelConfig) -> Path:
    """The module's file. Parents of a module in a package are imported for it, as Python does."""
    place = f"custom_model.factory {config.factory}"
    _add_path(config)
    try:
        found = _find_spec(config.module)
    except ModuleNotFoundError:
        found = None
    except Exception as error:
        raise UserError(f"{place}: importing a parent of it raised {_describe(error)}; correct it") from None
    if found is None or found.origin is None:
        where = f"in custom_model.path {config.path}, nor installed" if config.path else "installed"
        raise UserError(
            f"{place}: there is no module '{config.module}' {where}; install it where trials run, or name its folder "
            "in custom_model.path"
        )
    file, own = Path(found.origin), _find_in_path(config)
    if own is not None and own.resolve() != file.resolve() and file_fingerprint(own) != file_fingerprint(file):
        raise UserError(
            f"{place}: '{config.module}' is imported from {file}, not from custom_model.path {config.path}; give the "
            "module another name"
        )
    return file


def _find_spec(name: str) -> ModuleSpec | None:
    imported = sys.modules.get(name)
    if imported is not None and not Path(getattr(imported, "__file__", None) or "").is_file():
        del sys.modules[name]  # its file is gone: a copy of it may lie elsewhere
        importlib.invalidate_caches()
    return importlib.util.find_spec(name)


def import_factory(config: CustomModelConfig) -> Callable[..., Any]:
    """The function that makes the network. A UserError where it cannot be imported, or has other content than the
    recipe was made for."""
    place, actual = f"custom_model.factory {config.factory}", fingerprint_source(config)
    if config.fingerprint not in (None, actual):
        raise UserError(
            f"{place}: its content is {actual}, but the recipe was made for {config.fingerprint}; give the original "
            "file, or set custom_model.fingerprint to null to train with this one"
        )
    try:
        module = _import(config.module, actual)
    except Exception as error:
        raise UserError(f"{place}: importing it raised {_describe(error)}; correct it") from None
    factory = getattr(module, config.name, None)
    if not callable(factory):
        known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UserError(f"{place}: the module has no function '{config.name}'; {unknown_name(config.name, known)}")
    return factory


def _import(name: str, content: str) -> ModuleType:
    module = importlib.import_module(name)
    if _imported.setdefault(name, content) != content:
        module = importlib.reload(module)
        _imported[name] = content
    return module


def _add_path(config: CustomModelConfig) -> None:
    """Let the module's folder be imported from, after all others: it shadows nothing that is installed."""
    if config.path is not None and (folder := str(Path(config.path).resolve())) not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()


def _find_in_path(config: CustomModelConfig) -> Path | None:
    """The module's file in the recipe's `path`; None where it is not there."""
    if config.path is None:
        return None
    place = Path(config.path, *config.module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__} ({' '.join(str(error).split())})" if str(error) else type(error).__name__
