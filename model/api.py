"""The interface for Python: load a trained model, transcribe recordings, measure perplexities of its internal LM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.corpora.audio import AudioError, read_audio, to_mono_16khz
from model.data.batches import group_by_length
from model.data.frontend import extract_features
from model.data.recipe_inputs import load_run_tokenizer
from model.data.tokenizer import TOKENIZER_FILE, Tokenizer
from model.decoding import beam_search
from model.decoding.fusion import make_fusion
from model.decoding.length_limit import resolve_tokens_per_second
from model.errors import UserError
from model.evaluation.ilm_estimators import refuse_estimators
from model.evaluation.internal_lm import sequence_perplexities
from model.lm.internal import make_zero_memory
from model.network.making import make_model, refuse_untrusted
from model.network.recogniser import Recogniser
from model.recipe.files import read_recipe, with_values
from model.recipe.recipe import Recipe
from model.runtime.distributed import current_context
from model.transcription.cutting import SHORTEST_SECONDS, Cutting
from model.transcription.transcriber import Transcriber
from model.transcription.transcript import Transcript
from model.weights import checkpoint
from model.weights.chosen import find_run_weights, read_tokens_per_second
from model.weights.found_decoding import with_found_decoding
from model.weights.import_export import generation_values
from model.weights.model_folder import is_model_folder, load_model_folder
from model.weights.published import checkpoint as published

TEXTS_IN_A_BATCH = 64

Recording = str | Path | np.ndarray


@dataclass(frozen=True)
class Run:
    """A trained model in eval mode, its recipe and its tokenizer; `checkpoint` is the folder of its weights.

    `tokenizer` is None for a published checkpoint that came without one.
    """

    recipe: Recipe
    model: Recogniser
    tokenizer: Tokenizer | None
    checkpoint: Path

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer. Raises a UserError where there is none."""
        if self.tokenizer is None:
            raise UserError(
                f"{self.checkpoint}: has no tokenizer, so there is no text; give load_pretrained the SentencePiece "
                "model that it was trained with"
            )
        return self.tokenizer


def load_run(folder: str | Path, trust_code: bool = False) -> Run:
    """The weights that a run or a trial chose, or while it trains its last checkpoint's, on the GPU if there is one.

    The folder may also be a model folder, as `export --best` writes it. The recipe has the decoding that was found for
    the weights. The corpus is not needed. Raises a UserError where the folder holds no weights, or some that do not fit
    its recipe; and where its network is a user's own, unless `trust_code` agrees to run the Python code that its recipe
    names, which can do whatever you can.
    """
    folder = Path(folder)
    if is_model_folder(folder):
        found = load_model_folder(folder, trust_code)
        return Run(found.recipe, found.model.to(current_context().device), found.tokenizer, folder)
    place = find_run_weights(folder)
    if place is None:
        raise UserError(f"{folder}: holds no checkpoint; give the folder of a training run, as `train --out` makes it")
    recipe = with_found_decoding(read_recipe(folder / "recipe.yaml"), folder)
    refuse_untrusted(recipe, folder, trust_code)
    model = make_model(recipe)
    checkpoint.load_weights(place, model)
    model.tokens_per_second = read_tokens_per_second(folder, place)
    return Run(recipe, model.to(current_context().device).eval(), load_run_tokenizer(recipe, folder), place)


def load_pretrained(folder: str | Path, tokenizer: str | Path | None = None) -> Run:
    """A checkpoint in the published layout, as `export --format published` writes it, on the GPU if there is one.

    Its generation_config.json sets the decoding. `tokenizer` is the SentencePiece model that it was trained with; by
    default tokenizer.model in the folder, if there.
    """
    folder = Path(folder)
    model = published.load_pretrained(folder).to(current_context().device)
    path = Path(tokenizer) if tokenizer is not None else folder / TOKENIZER_FILE
    pieces = Tokenizer(path) if tokenizer is not None or path.is_file() else None
    if pieces is not None:
        pieces.check(model.recipe.tokenizer)
    return Run(with_values(model.recipe, generation_values(model), str(folder)), model, pieces, folder)


def load_transcriber(
    folder: str | Path,
    tokenizer: str | Path | None = None,
    decoding: Mapping[str, Any] | None = None,
    cutting: Cutting | None = None,
    trust_code: bool = False,
) -> Transcriber:
    """What transcribes with the model in the folder of a run, of a trial, of an exported model or in the published
    layout.

    It decodes as was found for the model, with the keys of `decoding` replaced, and cuts as `make_transcriber` has it.
    `tokenizer` is for a published checkpoint without one, `trust_code` is that of `load_run`.
    """
    folder = Path(folder)
    is_published = (folder / published.CONFIG).is_file() and not (folder / "recipe.yaml").is_file()
    run = load_pretrained(folder, tokenizer) if is_published else load_run(folder, trust_code)
    return make_transcriber(run, decoding, cutting)


def make_transcriber(
    run: Run, decoding: Mapping[str, Any] | None = None, cutting: Cutting | None = None
) -> Transcriber:
    """What transcribes with a loaded model, decoded as its recipe has it but for the keys of `decoding`.

    By default recordings are cut into pieces that are no longer than the recipe's longest training utterance.
    """
    recipe = with_values(run.recipe, {f"decoding.{key}": value for key, value in (decoding or {}).items()})
    cutting = cutting or Cutting(longest=max(recipe.data.longest_seconds, 2 * SHORTEST_SECONDS))
    return Transcriber(run.model, run.require_tokenizer(), recipe.decoding, cutting)


def transcribe(
    run: Run,
    recordings: Recording | bytes | Sequence[Recording | bytes],
    sample_rate: int | None = None,
    beam: int | None = None,
    ctc_weight: float | None = None,
) -> list[Transcript]:
    """The transcript of each recording, of any length: text, and segments and words with their times.

    A recording is one of `decode`, or the bytes of an audio file. Long ones are cut at silences. `beam` and
    `ctc_weight` are by default the recipe's. Raises a UserError where a recording cannot be used.
    """
    given = [recordings] if isinstance(recordings, str | Path | bytes | np.ndarray) else recordings
    changes = {"beam": beam, "ctc_weight": ctc_weight}
    transcriber = make_transcriber(run, {key: value for key, value in changes.items() if value is not None})
    transcripts = []
    for transcript in transcriber.transcribe_all(given, sample_rate):
        if isinstance(transcript, UserError):
            raise transcript
        transcripts.append(transcript)
    return transcripts


def decode(
    run: Run,
    recordings: Recording | Sequence[Recording],
    sample_rate: int | None = None,
    beam: int | None = None,
    ctc_weight: float | None = None,
) -> list[str]:
    """The most likely text of each recording.

    A recording is the path of an audio file, or an array (T,) or (T, channels) of floats within [-1, 1] at
    `sample_rate` Hz. `beam` and `ctc_weight` are by default the recipe's. Raises a UserError where a recording cannot
    be used.
    """
    tokenizer = run.require_tokenizer()
    changes = {"decoding.beam": beam, "decoding.ctc_weight": ctc_weight}
    decoding = with_values(run.recipe, {key: value for key, value in changes.items() if value is not None}).decoding
    given = [recordings] if isinstance(recordings, str | Path | np.ndarray) else recordings
    features = [_extract(recording, sample_rate, index) for index, recording in enumerate(given)]
    texts = [""] * len(features)
    for rows in group_by_length(np.array([len(frames) for frames in features]), decoding.batch_seconds):
        padded = pad_sequence([features[row] for row in rows], batch_first=True)
        lengths = torch.tensor([len(features[row]) for row in rows])
        device = next(run.model.parameters()).device
        bound = resolve_tokens_per_second(decoding.tokens_per_second, run.model.tokens_per_second)
        settings = decoding.beam, decoding.ctc_weight, None, decoding.length_penalty, bound
        fusion = make_fusion(run.model, decoding, tokenizer)
        nbest = beam_search.decode(run.model, padded.to(device), lengths, *settings, fusion=fusion)
        for row, hypotheses in zip(rows, nbest, strict=True):
            texts[row] = tokenizer.decode(hypotheses[0].tokens)
    return texts


def _extract(recording: Recording, sample_rate: int | None, index: int) -> Tensor:
    """Features (T, 80) of a recording."""
    try:
        if isinstance(recording, np.ndarray):
            if sample_rate is None:
                raise UserError("decode was given an array without a sample rate; give sample_rate in Hz")
            samples = to_mono_16khz(recording, sample_rate)
        else:
            samples = read_audio(Path(recording))
    except AudioError as error:
        name = f"recording {index}" if isinstance(recording, np.ndarray) else recording
        raise UserError(f"{name}: {error}; give another recording") from None
    return extract_features(torch.from_numpy(samples).float())


def perplexities(run: Run, texts: Sequence[str], estimator: Literal["skipped", "zeroed"] = "skipped") -> list[float]:
    """The internal language model's perplexity of each text: exp(mean NLL) of its tokens, eos counted, without audio.

    `estimator` is what takes the audio away (model/lm/internal.py): published figures are of `skipped`. Texts
    have to be normalised as those of the run's corpus are.
    """
    tokenizer, special = run.require_tokenizer(), run.recipe.tokenizer.special
    device = next(run.model.parameters()).device
    values: list[float] = []
    if estimator == "zeroed":
        refuse_estimators(run.recipe)
    memory = make_zero_memory(run.model.decoder) if estimator == "zeroed" else None
    for first in range(0, len(texts), TEXTS_IN_A_BATCH):
        batch = texts[first : first + TEXTS_IN_A_BATCH]
        rows = [torch.tensor([special.bos, *tokenizer.encode(text)]) for text in batch]
        ids = pad_sequence(rows, batch_first=True, padding_value=special.pad)
        mask = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])
        values += sequence_perplexities(run.model, ids.to(device), mask.to(device), memory).tolist()
    return values
