"""The generated pages of the documentation: commands, keys of study files, recipes and profiles, checks of corpora.

`make docs` writes them; tests/test_docs.py compares them with what the code says now.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GENERATED = "<!-- written by `make docs`; change the code that it describes -->\n\n"
FORMS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def finish(text: str) -> str:
    """A page as it is written."""
    return GENERATED + text.rstrip() + "\n"


def describe_commands() -> str:
    """Every command with its arguments, options and examples, as typer describes them."""
    words = ["-m", "typer", "study.cli.main", "utils", "docs", "--name", "decred-study", "--title", "Commands"]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    text = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+\n", "", unescape(run.stdout))  # these have their own headings
    text = re.sub(r"\* `(-h, )?--help`: Show this message and exit\.\n", "", text)
    text = re.sub(r"\*\*Options\*\*:\n\n(?=\n|\[bold\]|#|\Z)", "", text)
    text = re.sub(r"\{([A-Z_.a-z]+)\}", r"\1", text)
    return re.sub(r"\[bold\]Example\[/bold\]\n\n((?:\$ .*\n\n?)+)", _mark_examples, text)


def _mark_examples(match: re.Match[str]) -> str:
    lines = "\n".join(line for line in match[1].splitlines() if line)
    return f"```text\n{lines}\n```\n\n"


def describe_study_files() -> str:
    """The keys of a study file."""
    from study.config.study_file import make_json_schema

    title = (
        "# The keys of a study file\n\nAll but `name` and `corpus` may be left out. `decred-study schema` writes the"
    )
    return f"{title} same for editors.\n\n" + _describe_schema(json.loads(make_json_schema()))


def describe_recipes() -> str:
    """The keys of a recipe."""
    from model.recipe.recipe import Recipe

    title = (
        "# The keys of a recipe\n\nA study sets them under `recipe.set` and searches them under `search.recipe`, each"
    )
    return f"{title} by its dotted name: `optimiser.learning_rate`.\n\n" + _describe_schema(Recipe.model_json_schema())


def describe_profiles() -> str:
    """The keys of the profile of a cluster, of each kind."""
    from cluster.kinds import make_profile_schema

    schema = json.loads(make_profile_schema())
    kinds = [schema["$defs"][branch["$ref"].rpartition("/")[2]] for branch in schema["oneOf"]]
    common = {key: value for key, value in kinds[0]["properties"].items() if all_have(kinds, key, value)}
    every = {"properties": common, "required": kinds[0]["required"], "$defs": schema["$defs"]}
    parts = ["# The keys of a profile\n\n`decred-study schema --of profile` writes the same for editors.\n"]
    parts.append("## Of every kind\n\n" + _describe_schema(every))
    for kind in kinds:
        own = {key: value for key, value in kind["properties"].items() if key not in common}
        name = own["kind"]["const"]
        parts.append(f"# Kind {name}\n\n" + _describe_schema(kind | {"properties": own, "$defs": schema["$defs"]}))
    return "\n".join(parts)


def all_have(sections: list[dict[str, Any]], key: str, value: Mapping[str, Any]) -> bool:
    """Whether the key has this meaning in all of the sections."""
    return all(section["properties"].get(key) == value for section in sections)


def describe_checks() -> str:
    """What a preparation checks of every utterance, and the rules that each check may have."""
    from model.corpora.findings import CHECKS

    lines = ["# What a preparation checks", ""]
    lines += [
        "`--rule CHECK=RULE` changes a rule; the default is the first. Every finding is in the corpus' `findings.tsv`."
    ]
    lines += ["", "| check | what it finds | rules |", "|---|---|---|"]
    lines += [f"| `{name}` | {check.meaning} | {', '.join(check.rules)} |" for name, check in CHECKS.items()]
    lines += ["", "`drop` leaves the utterance out, `fix` changes it as said, `keep` only counts it, `fatal` ends the"]
    return "\n".join(lines) + "\npreparation."


def _describe_schema(schema: Mapping[str, Any]) -> str:
    """A table of the keys, and one for each section below them under its dotted name."""
    return "\n".join(_list_tables(schema, schema["$defs"], ""))


def _list_tables(section: Mapping[str, Any], definitions: Mapping[str, Any], prefix: str) -> Iterator[str]:
    if prefix:
        yield f"## {prefix}\n"
    if text := section.get("description"):
        yield " ".join(text.split("\n\n")[0].split()) + "\n"
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    below: list[tuple[str, Mapping[str, Any]]] = []
    required = section.get("required", [])
    for key, value in section["properties"].items():
        name = f"{prefix}.{key}" if prefix else key
        branches = value.get("anyOf") or value.get("oneOf") or [value]
        nested = [(name, branch) for branch in branches] + [
            (f"{name}.NAME", form)
            for branch in branches
            for form in (branch.get("items"), branch.get("additionalProperties"))
            if isinstance(form, Mapping)
        ]
        for path, branch in nested:
            found = _resolve(branch, definitions)
            if found is not None and "properties" in found and found is not section:
                below.append((path, found))
        default = "required" if key in required else f"`{_write(value.get('default'))}`"
        if any(name == other for other, _ in below):
            default = "" if default != "required" else default
        yield f"| `{key}` | {_describe_form(value, definitions)} | {default} | {_describe_meaning(value)} |"
    yield ""
    for name, found in below:
        yield from _list_tables(found, definitions, name)


def _resolve(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    reference = value.get("$ref")
    return definitions[reference.rpartition("/")[2]] if reference else None


def _describe_form(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    branches = value.get("anyOf") or value.get("oneOf")
    if branches:
        return " or ".join(dict.fromkeys(_describe_form(branch, definitions) for branch in branches))
    if (found := _resolve(value, definitions)) is not None:
        return "keys below" if "properties" in found else _describe_form(found, definitions)
    if "enum" in value or "const" in value:
        return ", ".join(f"`{_write(word)}`" for word in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        items = value.get("prefixItems") or [value.get("items", {})]
        forms = [_describe_form(item, definitions) for item in items]
        return f"list of {forms[0]}" if "prefixItems" not in value else f"[{', '.join(forms)}]"
    if value.get("type") == "object":
        return "mapping"
    bounds = " ".join(f"{sign} {value[bound]:g}" for bound, sign in BOUNDS.items() if bound in value)
    return " ".join([FORMS.get(value.get("type", ""), "any"), bounds]).strip()


def _describe_meaning(value: Mapping[str, Any]) -> str:
    usual = "always this" if "const" in value else ""
    return " ".join(str(value.get("description", usual)).split()).replace("|", "\\|")


def _write(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "study/docs/commands.md": describe_commands,
    ROOT / "study/docs/study-file.md": describe_study_files,
    ROOT / "model/docs/recipe.md": describe_recipes,
    ROOT / "model/docs/checks.md": describe_checks,
    ROOT / "cluster/docs/profiles.md": describe_profiles,
}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for path, make in PAGES.items():
        path.write_text(finish(make()), encoding="utf-8")
        print(f"{path.relative_to(ROOT)} written")
