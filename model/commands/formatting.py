"""Metrics as lines of text."""

from __future__ import annotations

from collections.abc import Mapping


def format_epoch(metrics: Mapping[str, float], epochs: int) -> str:
    """An epoch in a line. At the end of the training, a line for the chosen weights, each test set and each domain."""
    if "finished" in metrics:
        part = f" of {metrics['dev/utterances']:.0f} utterances" if "dev/utterances" in metrics else ""
        line = (
            f"chosen: epoch {int(metrics['chosen_epoch'])}  dev WER {metrics['dev/wer']:.1f} %{part}  "
            f"final decoding {metrics['dev/wer_final']:.1f} %"
        )
        others = {key: metrics[key] for key in metrics if not key.startswith("dev/")}
        return "\n".join([line, *format_estimators(metrics), *format_sets(others)])
    return (
        f"epoch {int(metrics['epoch'])}/{epochs}  loss {metrics['train/loss']:.3f}  "
        f"dev WER {metrics['dev/wer']:.1f} %  "
        f"perplexity {metrics['dev/perplexity']:.2f}  ILM perplexity {metrics['dev/ilm_perplexity']:.1f}  "
        f"{metrics['train/seconds'] + metrics['dev/seconds']:.0f} s"
    )


def format_sets(metrics: Mapping[str, float]) -> list[str]:
    """WER of each set and each domain, a line for each, with the internal-LM perplexity where that is known."""
    lines = []
    for name in [key.removesuffix("/wer") for key in metrics if key.endswith("/wer")]:
        perplexity = metrics.get(f"{name}/ilm_perplexity")
        known = "" if perplexity is None else f"  ILM perplexity {perplexity:.1f}"
        lines.append(f"{name}: WER {metrics[f'{name}/wer']:.1f} %{known}")
    return lines


def format_estimators(metrics: Mapping[str, float]) -> list[str]:
    """A line for each perplexity of the internal language model by another estimator."""
    mark = "/ilm_perplexity_"
    own = {key: key.partition(mark) for key in metrics if key.endswith(("_zeroed", "_mean_context")) and mark in key}
    return [
        f"{name}: ILM perplexity, {estimator.replace('_', ' ')}: {metrics[key]:.1f}"
        for key, (name, _, estimator) in own.items()
    ]


REFERENCES = {"wer": "WER {:.1f} %", "ilm_perplexity": "ILM perplexity {:.1f}"}


def format_references(references: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The published figures of each set in a line: set -> system -> metric -> value."""
    return [
        f"published on {name}: "
        + "; ".join(
            f"{system} "
            + ", ".join(REFERENCES.get(metric, metric + " {:g}").format(value) for metric, value in figures.items())
            for system, figures in systems.items()
        )
        for name, systems in references.items()
    ]
