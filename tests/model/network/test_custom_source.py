"""The function that a recipe names for its network: where it is found, by which content, and what is wrong with it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from model.errors import UserError
from model.network.custom_source import find_source, import_factory
from model.network.making import make_model
from model.recipe.custom_model import CustomModelConfig
from model.recipe.files import named_recipe, with_values
from model.strict import file_fingerprint

TINY = named_recipe("tiny", "corpus")
SOURCE = """
from torch import nn

class NoStep(nn.Module):
    encode = ctc = prepare_memory = classify = nn.Identity.forward

    def __init__(self, recipe):
        super().__init__()

class Empty(NoStep):
    step = nn.Identity.forward

def dictionary(recipe):
    return {}

def sized(recipe, width):
    raise ValueError(f"width is {width},\\nbut must be even")

VERSION = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module `factories_N`, of a name that no other test has imported."""
    (tmp_path / f"{module_in(tmp_path)}.py").write_text(SOURCE)
    return tmp_path


def module_in(folder: Path) -> str:
    return "factories_" + "".join(letter for letter in folder.name if letter.isalnum())


def config(folder: Path, name: str, **values: Any) -> CustomModelConfig:
    return CustomModelConfig(factory=f"{module_in(folder)}:{name}", path=str(folder), **values)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dictionary", {}, r"returned dict, but must return a torch\.nn\.Module$"),
        ("NoStep", {}, r"NoStep has no method 'step'; add what model/network/protocol\.py lists$"),
        ("Empty", {}, r"Empty has no parameter to train; give it one$"),
        ("NoStp", {}, "the module has no function 'NoStp'; did you mean 'NoStep'"),
        ("VERSION", {}, "the module has no function 'VERSION'; "),
        (
            "dictionary",
            {"depth": 2},
            r"called with depth 2, it raised TypeError \(dictionary\(\) got an unexpected keyword",
        ),
        ("sized", {"width": 3}, r"called with width 3, it raised ValueError \(width is 3, but must be even\); correct"),
        (
            "sized",
            {},
            r"called with no settings, it raised TypeError \(sized\(\) missing 1 required positional argument",
        ),
    ],
)
def test_what_is_wrong_with_the_function_is_one_line(
    folder: Path, name: str, settings: dict[str, Any], message: str
) -> None:
    values = {"custom_model": config(folder, name, settings=settings or None).model_dump()}
    with pytest.raises(UserError, match=rf"^custom_model\.factory factories_\w+:{name}: {message}") as raised:
        make_model(with_values(TINY, values))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            "nowhere:make",
            r"there is no module 'nowhere' in custom_model\.path \S+, nor installed; install it where trials",
        ),
        ("nowhere.at_all:make", r"there is no module 'nowhere\.at_all' in custom_model\.path"),
        ("raising:make", r"importing it raised RuntimeError \(broken\); correct it$"),
        ("lacking:make", r"importing it raised ModuleNotFoundError \(No module named 'nothing_of_this_name'\)"),
        ("raising.part:make", r"importing a parent of it raised RuntimeError \(broken\); correct it$"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(tmp_path: Path, factory: str, message: str) -> None:
    (tmp_path / "raising.py").write_text("raise RuntimeError('broken')\n")
    (tmp_path / "lacking.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(UserError, match=rf"^custom_model\.factory {factory}: {message}"):
        import_factory(CustomModelConfig(factory=factory, path=str(tmp_path)))


def test_without_a_path_only_what_is_installed_is_found(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"there is no module 'nowhere' installed; install it where trials run, or name"
    ):
        import_factory(CustomModelConfig(factory="nowhere:make"))
    assert find_source(CustomModelConfig(factory="model.network.making:make_model")).name == "making.py"


def test_other_content_than_the_recipe_was_made_for_is_refused(folder: Path) -> None:
    content = file_fingerprint(folder / f"{module_in(folder)}.py")
    assert callable(import_factory(config(folder, "dictionary", fingerprint=content)))
    with pytest.raises(
        UserError, match=rf"its content is {content}, but the recipe was made for 0123; give the original"
    ):
        import_factory(config(folder, "dictionary", fingerprint="0123"))


def test_a_file_that_is_edited_while_the_process_lives_is_imported_again(folder: Path) -> None:
    file = folder / f"{module_in(folder)}.py"
    assert import_factory(config(folder, "dictionary"))(TINY) == {}
    file.write_text(SOURCE.replace("return {}", "return {'edited': True, 'longer': 'than before'}"))
    assert import_factory(config(folder, "dictionary"))(TINY)["edited"]


def test_a_module_in_a_package_is_found_in_the_packages_folder(tmp_path: Path) -> None:
    package = tmp_path / f"package_{module_in(tmp_path)}"
    package.mkdir()
    (package / "networks.py").write_text(SOURCE)
    (package / "__init__.py").write_text("")
    found = CustomModelConfig(factory=f"{package.name}.networks:dictionary", path=str(tmp_path))
    assert find_source(found) == package / "networks.py"
    assert import_factory(found)(TINY) == {}


def test_the_folder_of_a_recipe_shadows_nothing_that_is_installed(tmp_path: Path) -> None:
    (tmp_path / "wave.py").write_text("def make(recipe):\n    return None\n")
    found = CustomModelConfig(factory="wave:make", path=str(tmp_path))
    with pytest.raises(
        UserError, match=r"'wave' is imported from \S+wave\.py, not from custom_model\.path .*another name"
    ):
        import_factory(found)
    assert sys.path.index(str(tmp_path)) == len(sys.path) - 1
