"""A trained model that transcribes: recordings are cut, their pieces decoded in batches of similar length."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.data.batches import group_by_length
from model.data.frontend import FRAMES_PER_SECOND, log_mel, standardise
from model.data.tokenizer import Tokenizer
from model.decoding.beam_search import beam_search
from model.decoding.decoder_steps import keep_graphs
from model.decoding.encoding import encode
from model.decoding.fusion import make_fusion
from model.decoding.length_limit import resolve_tokens_per_second
from model.errors import OutOfMemoryError, UserError
from model.evaluation.scoring import use_mixing
from model.network.recogniser import Recogniser
from model.recipe.architecture import SAMPLE_RATE
from model.recipe.decoding import DecodingConfig
from model.runtime.memory import convert_memory_failures, release_memory
from model.transcription.cutting import Cutting, cut, measure_loudness
from model.transcription.recordings import Recording, read_recording
from model.transcription.segments import Decoded, make_segment, measure_tokens
from model.transcription.transcript import Transcript

T = TypeVar("T")
R = TypeVar("R")
BATCHES_TOGETHER = 8  # pieces of so many batches are sorted by length, so that little of a batch is padding
READERS = 4  # threads that read ahead


def _ignore(seconds: float) -> None:
    pass


@dataclass
class _Piece:
    """A piece of a recording: where it begins in it, in seconds, its features (T, 80), how loud each of its frames is
    (T,), and what was decoded."""

    start: float
    features: Tensor
    loudness: np.ndarray
    decoded: Decoded | None = None


@dataclass
class _Prepared:
    seconds: float
    pieces: list[_Piece]


@dataclass(frozen=True)
class Transcriber:
    """A model in eval mode with its tokenizer, how it is decoded, and how recordings are cut."""

    model: Recogniser
    tokenizer: Tokenizer
    decoding: DecodingConfig
    cutting: Cutting = field(default_factory=Cutting)

    def transcribe(
        self, recording: Recording, sample_rate: int | None = None, channel: int | None = None
    ) -> Transcript:
        """The transcript of a recording: a path, the bytes of an audio file, or an array at `sample_rate` Hz.

        Channels are mixed, or `channel` is taken, counted from 0. Raises a UserError where it cannot be used.
        """
        (transcript,) = self.transcribe_all([recording], sample_rate, channel)
        if isinstance(transcript, UserError):
            raise transcript
        return transcript

    def transcribe_all(
        self,
        recordings: Iterable[Recording],
        sample_rate: int | None = None,
        channel: int | None = None,
        names: Sequence[str] = (),
        on_progress: Callable[[float], None] = _ignore,
    ) -> Iterator[Transcript | UserError]:
        """The transcript of each recording in their order, or why it cannot be used; read as they are needed.

        `names` are what messages call the recordings, by default paths and numbers. `on_progress` is called with
        seconds of audio that are done.
        """

        def prepare(numbered: tuple[int, Recording]) -> _Prepared | UserError:
            number, recording = numbered
            name = str(recording) if isinstance(recording, str | Path) else f"recording {number}"
            name = names[number] if number < len(names) else name
            try:
                return self._prepare(read_recording(recording, name, sample_rate, channel))
            except UserError as error:
                return error

        waiting: list[_Prepared | UserError] = []
        seconds, enough = 0.0, BATCHES_TOGETHER * self.decoding.batch_seconds
        with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as pool:
            for prepared in map_ahead(pool, prepare, enumerate(recordings), 2 * READERS):
                waiting.append(prepared)
                seconds += prepared.seconds if isinstance(prepared, _Prepared) else 0.0
                if seconds >= enough:
                    yield from self._finish(waiting, on_progress)
                    waiting, seconds = [], 0.0
        yield from self._finish(waiting, on_progress)

    def _prepare(self, samples: np.ndarray) -> _Prepared:
        energies = log_mel(torch.from_numpy(samples))
        loudness = measure_loudness(energies)
        pieces = [
            _Piece(first / FRAMES_PER_SECOND, standardise(energies[first:end]), loudness[first:end])
            for first, end in cut(energies, loudness, self.cutting)
        ]
        return _Prepared(len(samples) / SAMPLE_RATE, pieces)

    def _finish(
        self, waiting: Sequence[_Prepared | UserError], on_progress: Callable[[float], None]
    ) -> Iterator[Transcript | UserError]:
        """Decode what is prepared."""
        pieces = [piece for one in waiting if isinstance(one, _Prepared) for piece in one.pieces]
        lengths = np.array([len(piece.features) for piece in pieces])
        with torch.inference_mode(), use_mixing(self.model, self.decoding), keep_graphs():
            for rows in group_by_length(lengths, self.decoding.batch_seconds) if pieces else ():
                batch = [pieces[row] for row in rows]
                self._decode_in_parts(batch)
                on_progress(float(lengths[rows].sum()) / FRAMES_PER_SECOND)
        for one in waiting:
            if isinstance(one, _Prepared):
                on_progress(one.seconds - sum(len(piece.features) for piece in one.pieces) / FRAMES_PER_SECOND)
            yield self._collect(one) if isinstance(one, _Prepared) else one

    def _decode_in_parts(self, batch: list[_Piece]) -> None:
        """Decode a batch, or where memory does not suffice each half of it."""
        size = f"{len(batch)} pieces x {max(len(piece.features) for piece in batch)} frames"
        advice = "allow shorter pieces, or lower the decoding's beam"
        try:
            with convert_memory_failures(f"transcribing {size}, beam {self.decoding.beam}", advice):
                self._decode(batch)
            return
        except OutOfMemoryError:
            if len(batch) == 1:
                raise
        release_memory()
        middle = len(batch) // 2
        self._decode_in_parts(batch[:middle])
        self._decode_in_parts(batch[middle:])

    def _decode(self, batch: list[_Piece]) -> None:
        model, decoding = self.model, self.decoding
        features = pad_sequence([piece.features for piece in batch], batch_first=True)
        lengths = torch.tensor([len(piece.features) for piece in batch])
        encoded = encode(model, features.to(model.device), lengths, decoding)
        bound = resolve_tokens_per_second(decoding.tokens_per_second, model.tokens_per_second)
        search = decoding.beam, decoding.ctc_weight, None, decoding.length_penalty, bound
        nbest = beam_search(model, encoded, *search, fusion=make_fusion(model, decoding, self.tokenizer))
        tokens = [hypotheses[0].tokens for hypotheses in nbest]
        for piece, decoded in zip(batch, measure_tokens(model, encoded, tokens), strict=True):
            piece.decoded = decoded

    def _collect(self, prepared: _Prepared) -> Transcript:
        padding = self.model.recipe.encoder.convolution_padding
        segments = [
            make_segment(piece.decoded, self.tokenizer, piece.start, piece.loudness, padding)
            for piece in prepared.pieces
            if piece.decoded is not None
        ]
        return Transcript(tuple(segment for segment in segments if segment is not None), prepared.seconds)


def map_ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """The function of each item, in their order, computed for at most so many items ahead."""
    rest = iter(items)
    running: deque[Future[R]] = deque(pool.submit(function, item) for item in islice(rest, ahead))
    while running:
        done = running.popleft().result()
        running.extend(pool.submit(function, item) for item in islice(rest, 1))
        yield done
