"""`export --best`: a model folder with all that others need to use, judge and reproduce a trained model.

Beside the files of model/weights/model_folder.py:

README.md        the card
figures.json     every figure of this training, and of those of the same configuration with other seeds
verdict.json     what the study shows, in words and numbers
manifest.json    versions, hardware, seeds and hashes of the training, and hashes of the files here
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from model.strict import file_fingerprint, write_atomically
from model.weights.model_folder import LANGUAGE_MODEL, MODEL_FILES, write_model_folder
from study.display.model_card import ModelFacts, make_model_card
from study.execution.model_facts import gather_run, gather_trial, guess_language, read_run_recipe
from study.ledger.best import choose_trial, export_recipe
from study.ledger.ledger import Ledger
from study.verdict.study_verdict import Verdict, make_verdict
from study.verdict.words import describe_verdict

CARD, FIGURES, VERDICT, MANIFEST = "README.md", "figures.json", "verdict.json", "manifest.json"
PRIVATE = ("host", "id")  # parts of a manifest that are nobody's business


def export_model(
    ledger: Ledger, trial: int | None, out: Path, license_: str | None = None, language: str | None = None
) -> str:
    """Write the trained model of a trial, of the best one by default, to a folder; the line that reports it."""
    record = choose_trial(ledger, trial)
    recipe, number = export_recipe(ledger, record.number)
    write_model_folder(ledger.trial_folder(number), recipe, out)
    verdict = make_verdict(ledger.trials)
    _write_facts(gather_trial(ledger, record, recipe), verdict, ledger.manifest, out, license_, language)
    return f"trial {number:04d}, recipe {recipe.hash}, written to {out} with its tokenizer, decoding and card"


def register_trial(ledger: Ledger, trial: int | None, name: str, folder: Path | None) -> str:
    """Make a trial's model the version `best` of a registered model of MLflow's; the line that reports it.

    `folder` is the model folder of that trial; None writes one that is not kept.
    """
    from study.config.tracking_uri import mask_uri
    from study.tracking.mlflow_store import store_uri
    from study.tracking.registry import register_model

    record, uri = choose_trial(ledger, trial), store_uri(ledger.study.tracking, ledger.folder)
    with tempfile.TemporaryDirectory(prefix="decred-export-") as temporary:
        if folder is None:
            folder = Path(temporary) / "model"
            export_model(ledger, record.number, folder)
        study_id = ledger.manifest.get("id")
        done = register_model(uri, ledger.study.name, folder, name, record.number, study_id, ledger.folder)
    state = "registered as" if done.is_new else "is registered already as"
    return f"trial {record.number:04d} {state} version {done.version} of '{name}', {done.uri}, at {mask_uri(uri)}"


def export_run(run: Path, out: Path, license_: str | None = None, language: str | None = None) -> str:
    """The same of the folder of a single run, which no study has judged."""
    recipe = read_run_recipe(run)
    write_model_folder(run, recipe, out)
    _write_facts(gather_run(run, recipe), None, {}, out, license_, language)
    return f"{run}, recipe {recipe.hash}, written to {out} with its tokenizer, decoding and card"


def _write_facts(
    facts: ModelFacts,
    verdict: Verdict | None,
    manifest: dict[str, Any],
    out: Path,
    license_: str | None,
    language: str | None,
) -> None:
    facts = replace(facts, license=license_, language=language or guess_language(facts))
    lines = describe_verdict(verdict) if verdict is not None else []
    names = [name for name in (*MODEL_FILES, LANGUAGE_MODEL) if (out / name).is_file()]
    files = {"files": {name: file_fingerprint(out / name) for name in names}}
    _write_json(out / FIGURES, asdict(facts))
    _write_json(out / VERDICT, {"lines": lines, "verdict": describe_numbers(verdict)})
    _write_json(out / MANIFEST, {key: value for key, value in manifest.items() if key not in PRIVATE} | files)
    write_atomically(out / CARD, make_model_card(facts, lines))


def describe_numbers(verdict: Verdict | None) -> dict[str, Any] | None:
    """A verdict as JSON types; what is infinite, as the interval over one seed, is null."""
    if verdict is None:
        return None
    return {
        "classes": list(verdict.classes),
        "seeds": list(verdict.seeds),
        "finalists": {
            one.finalist.recipe_class: {
                "trial": one.finalist.number,
                "selected": one.selected,
                "replicated": one.replicated,
            }
            for one in (verdict.first, verdict.second)
        },
        "figures": {
            name: {"level": judged.level, "shown": judged.is_shown, "overall": _describe_effect(judged.overall)}
            | {"sets": [_describe_effect(effect) for effect in judged.effects]}
            for name, judged in verdict.judged.items()
        },
    }


def _describe_effect(effect: Any) -> dict[str, Any]:
    values = asdict(effect) | {"difference": effect.difference}
    values["interval"] = [bound if math.isfinite(bound) else None for bound in effect.interval]
    return values


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
