"""Metrics as lines of text."""

from __future__ import annotations

from collections.abc import Mapping


def format_epoch(metrics: Mapping[str, float], epochs: int) -> str:
    """An epoch in a line. At the end of the training, a line for the chosen weights, each test set and each domain."""
    if "finished" in metrics:
        line = (
            f"chosen: epoch {int(metrics['chosen_epoch'])}  dev WER {metrics['dev/wer']:.1f} %  "
            f"final decoding {metrics['dev/wer_final']:.1f} %"
        )
        return "\n".join([line, *format_sets({key: metrics[key] for key in metrics if not key.startswith("dev/")})])
    return (
        f"epoch {int(metrics['epoch'])}/{epochs}  loss {metrics['train/loss']:.3f}  "
        f"dev WER {metrics['dev/wer']:.1f} %  "
        f"perplexity {metrics['dev/perplexity']:.2f}  ILM perplexity {metrics['dev/ilm_perplexity']:.1f}  "
        f"{metrics['train/seconds'] + metrics['dev/seconds']:.0f} s"
    )


def format_sets(metrics: Mapping[str, float]) -> list[str]:
    """WER and internal-LM perplexity of each set and each domain, a line for each."""
    sets = [key.removesuffix("/wer") for key in metrics if key.endswith("/wer")]
    sets = [name for name in sets if f"{name}/ilm_perplexity" in metrics]
    return [
        f"{name}: WER {metrics[f'{name}/wer']:.1f} %  ILM perplexity {metrics[f'{name}/ilm_perplexity']:.1f}"
        for name in sets
    ]
