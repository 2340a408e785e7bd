"""The card of an exported model or recipe: which study it comes from, its figures, and what the study shows."""

from __future__ import annotations

from study.ledger.trials import Trials
from study.verdict.study_verdict import make_verdict
from study.verdict.words import describe_verdict

FIGURES = ("/wer", "/wer_final", "/ilm_perplexity")


def make_card(trials: Trials, study: str, number: int) -> str:
    """Markdown on the model of a trial of the study of this name."""
    record = trials[number]
    values = ", ".join(f"{key} {value}" for key, value in record.values.items()) or record.baseline
    figures = [f"| {key} | {value:.2f} |" for key, value in record.final_metrics.items() if key.endswith(FIGURES)]
    table = ["", "| figure | value |", "|---|---|", *figures] if figures else []
    lines = [f"# Trial {number:04d} of study {study}", "", f"Recipe {record.recipe_hash}: {values}.", *table]
    return "\n".join([*lines, "", *list_remarks(trials)]).rstrip() + "\n"


def make_header(trials: Trials, study: str, number: int) -> str:
    """Comment lines for the top of a trial's exported recipe."""
    lines = [f"trial {number:04d} of study {study}", *list_remarks(trials)]
    return "".join(f"# {line}\n" for line in lines)


def list_remarks(trials: Trials) -> list[str]:
    """What the study shows, a line each; empty where it gives no verdict."""
    verdict = make_verdict(trials)
    return describe_verdict(verdict) if verdict is not None else []
