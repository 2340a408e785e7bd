"""Recordings for tests of corpora: tones and noise, and segments of files that are written with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from model.corpora.source import AudioRef, Segment


def tone(seconds: float = 0.5, rate: int = 8000, hertz: float = 440.0) -> np.ndarray:
    """(T,) of half of full scale."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def noise(seed: int, seconds: float = 0.5, rate: int = 16_000) -> np.ndarray:
    """(T,) that no other seed gives."""
    return np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * rate))


def write_segments(folder: Path, sets: dict[str, int], seconds: float = 1.0) -> list[Segment]:
    """So many segments of each set, each a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    segments = []
    for set_name, count in sets.items():
        for number in range(count):
            name = f"{set_name}-{number}"
            path = folder / f"{name}.wav"
            soundfile.write(path, noise(len(segments), seconds), 16_000)
            text = f"{set_name} sentence {number}"
            segments.append(Segment(f"row {name}", name, text, AudioRef(str(path)), f"{set_name}-ann", set_name))
    return segments
