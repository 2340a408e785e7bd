"""A DeCRED recogniser that can be trained, scored and decoded alone, without Ray, MLflow or Optuna.

    import model
    run = model.load_run("runs/best")
    texts = model.decode(run, ["a.wav", "b.flac"])
    for word in model.transcribe(run, "an_hour.mp3")[0].words:
        print(word.start, word.end, word.text)
    perplexities = model.perplexities(run, texts)

These names are loaded on first use: `import model` alone takes milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.api import decode, load_pretrained, load_run, load_transcriber, perplexities, transcribe

__all__ = ["decode", "load_pretrained", "load_run", "load_transcriber", "perplexities", "transcribe"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'model' has no attribute '{name}'")
    from model import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
