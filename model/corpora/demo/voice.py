"""Speech from Espeak NG, taken from the wheel `espeakng-loader` (library and data, nothing to download)."""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from model.errors import UserError

ESPEAK_RATE = 22_050  # Hz
RANDOM_SEED = 1  # breath and flutter are drawn at random; one seed makes one sentence sound one way

SYNCHRONOUS = 2  # audio comes through the callback, in the calling thread
DONT_EXIT = 0x8000  # without it, missing data ends the whole process
RATE, PITCH = 1, 3  # espeak_PARAMETER
UTF8 = 1

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_ONE_AT_A_TIME = threading.Lock()  # the library keeps its state in globals


@dataclass(frozen=True)
class Voice:
    """An accent (`en-us`), a variant of it (`f3`), words per minute and a pitch from 0 to 99."""

    accent: str
    variant: str
    rate: int
    pitch: int

    @property
    def speaker(self) -> str:
        """The name that goes into the corpus; rate and pitch change from utterance to utterance."""
        return f"{self.accent}+{self.variant}"


def check_espeak() -> None:
    """Raise a UserError unless the extra `demo` is installed."""
    _paths()


def speak(text: str, voice: Voice) -> np.ndarray:
    """`text` as (T,) int16 at `ESPEAK_RATE`; equal arguments give equal bytes, whatever was synthesised before."""
    chunks: list[bytes] = []

    def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    library_path, data_path = _paths()
    with _ONE_AT_A_TIME, TemporaryDirectory() as short:
        # Espeak NG cuts paths at 160 characters, so a virtual environment deep in a tree would be lost without a link.
        link = Path(short, "data")
        link.symlink_to(data_path)
        _speak(text, voice, _CALLBACK(collect), library_path, str(link))
    return np.frombuffer(b"".join(chunks), dtype=np.int16)


def _speak(text: str, voice: Voice, callback: ctypes._FuncPointer, library_path: str, data_path: str) -> None:
    # Phases and flutter live in the library's globals, which espeak_Terminate does not reset: only loading the library
    # again (5 ms) does.
    library = ctypes.CDLL(library_path)
    try:
        if library.espeak_Initialize(SYNCHRONOUS, 0, data_path.encode(), DONT_EXIT) != ESPEAK_RATE:
            raise UserError(f"Espeak NG does not start with its data in {data_path}; {_INSTALL}")
        library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.speaker.encode()) != 0:
            raise UserError(f"Espeak NG has no voice '{voice.speaker}'; {_INSTALL}")
        library.espeak_SetParameter(RATE, voice.rate, 0)
        library.espeak_SetParameter(PITCH, voice.pitch, 0)
        encoded = text.encode()
        library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, UTF8, None, None)
        library.espeak_Synchronize()
        library.espeak_Terminate()
    finally:
        _ctypes.dlclose(library._handle)


_INSTALL = "install the demo extra again: pip install 'decred-study[demo]'"


def _paths() -> tuple[str, str]:
    """Espeak NG's library and its data."""
    try:
        import espeakng_loader
    except ImportError:
        raise UserError(
            "the demo corpus is spoken by Espeak NG, which is not installed; run: pip install 'decred-study[demo]'"
        ) from None
    return str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
