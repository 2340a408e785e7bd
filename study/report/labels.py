"""Names of metrics and quantities for people, and figures as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from study.ledger.best import PARAMETERS

METRICS = {
    "dev/wer": "dev WER",
    "dev/wer_final": "final dev WER",
    "dev/macro_wer": "dev macro WER",
    "dev/macro_wer_final": "final dev macro WER",
    "dev/in_domain/wer": "in-domain dev WER",
    "dev/out_of_domain/wer": "out-of-domain dev WER",
    "dev/in_domain/wer_final": "final in-domain dev WER",
    "dev/out_of_domain/wer_final": "final out-of-domain dev WER",
    "dev/ctc_wer": "dev WER, CTC alone",
    "dev/cer": "dev CER",
    "dev/rtf": "real-time factor",
    "dev/rtf_final": "final real-time factor",
    "dev/perplexity": "dev perplexity",
    "dev/ilm_perplexity": "ILM perplexity",
    "dev/ilm_perplexity_final": "final ILM perplexity",
    "dev/in_domain/ilm_perplexity_final": "final in-domain ILM perplexity",
    "dev/out_of_domain/ilm_perplexity_final": "final out-of-domain ILM perplexity",
    "dev/ilm_perplexity_zeroed": "ILM perplexity, zeroed",
    "dev/ilm_perplexity_mean_context": "ILM perplexity, mean context",
    "dev/in_domain/ilm_perplexity": "in-domain ILM perplexity",
    "dev/out_of_domain/ilm_perplexity": "out-of-domain ILM perplexity",
    "in_domain/wer": "in-domain test WER",
    "out_of_domain/wer": "out-of-domain test WER",
    "in_domain/ilm_perplexity": "in-domain test ILM perplexity",
    "out_of_domain/ilm_perplexity": "out-of-domain test ILM perplexity",
    "train/loss": "training loss",
    "train/loss_ctc": "training CTC loss",
    "train/loss_attention": "training attention loss",
}
FIGURES = {"wer": "WER", "ilm_perplexity": "ILM perplexity"}
DOMAINS = {"in_domain": "in domain", "out_of_domain": "out of domain"}
COLUMNS = (
    "dev/ilm_perplexity",
    "dev/ilm_perplexity_zeroed",
    "dev/ilm_perplexity_mean_context",
    "dev/in_domain/wer_final",
    "dev/out_of_domain/wer_final",
    "dev/ctc_wer",
    "in_domain/wer",
    "out_of_domain/wer",
)


def label_metric(name: str) -> str:
    """A metric's name in words."""
    return METRICS.get(name, name)


def label_quantity(name: str) -> str:
    """A searched quantity's name in words."""
    words = name.removeprefix("auxiliary.").removeprefix("loss.").removeprefix("optimiser.")
    return words.replace("_", " ").replace(".", " ").replace("ctc", "CTC")


def format_figure(value: float | None, digits: int = 2) -> str:
    """A figure with its digits, or a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def count_digits(metric: str) -> int:
    """The digits of a metric's figures that matter, behind the point."""
    if metric == PARAMETERS:
        return 0
    return 4 if metric.endswith(("/rtf", "/rtf_final")) else 2


def format_interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """[low, high], or a dash."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return "–"
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def format_value(value: Any) -> str:
    """A searched value in a few characters."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return "–" if value is None else str(value).replace(",", ", ")


def format_values(values: Mapping[str, Any]) -> str:
    """All searched values of a trial in a line; what a trial without classifiers has none of is left out."""
    shown = dict(values)
    if shown.get("auxiliary.placement") == "none":
        shown = {name: value for name, value in shown.items() if name not in ("auxiliary.weights", "final_weight")}
    return ", ".join(f"{label_quantity(name)} {format_value(value)}" for name, value in shown.items())


def count_trials(number: int) -> str:
    """1 trial, 2 trials."""
    return f"{number} trial" + ("" if number == 1 else "s")


def round_figure(value: float) -> float | None:
    """The figure with six significant digits, which charts do not show more of; None where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def start_sentence(text: str) -> str:
    """The text with a capital at its start, unless it starts with a metric's own name."""
    return text if "/" in text.split(" ")[0] else text[:1].upper() + text[1:]
