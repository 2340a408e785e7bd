"""Transcribing with a model that was trained for two epochs: what it writes is poor, but it depends on the audio."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import model
from model.api import Run
from model.corpora.audio import read_audio
from model.corpora.corpus import Corpus
from model.errors import OutOfMemoryError, UserError
from model.training.loop import train
from model.transcription import transcriber as room
from model.transcription.cutting import Cutting
from model.transcription.segments import place_tokens
from model.transcription.transcriber import Transcriber, map_ahead
from model.transcription.transcript import Transcript
from model.weights.import_export import export_published

TRAINED = {"training.epochs": 2, "optimiser.learning_rate": 1e-2, "decoding.length_penalty": 3.0}
TRAINED |= {"decoding.beam": 4, "decoding.ctc_weight": 0.2}  # else the best hypothesis is empty


@pytest.fixture(scope="module")
def folder(make_recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transcription") / "run"
    train(make_recipe(TRAINED), folder, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return model.load_run(folder)


@pytest.fixture(scope="module")
def transcriber(folder: Path) -> Transcriber:
    return model.load_transcriber(folder, cutting=Cutting(pause=0.8))


@pytest.fixture(scope="module")
def paths(corpus: Corpus) -> list[Path]:
    cuts = [cut for name in corpus.set_names("dev") for cut in corpus.cuts(name)]
    return [Path(cut.recording.sources[0].source) for cut in cuts]


def texts(results: Iterator[Transcript | UserError]) -> list[str]:
    return [result.text if isinstance(result, Transcript) else f"error: {result}" for result in results]


def test_utterances_are_transcribed_as_they_are_decoded(transcriber: Transcriber, run: Run, paths: list[Path]) -> None:
    expected = model.decode(run, paths)
    assert len({*expected, ""}) > 2, "texts that differ"
    assert texts(transcriber.transcribe_all(paths)) == expected
    assert [transcript.text for transcript in model.transcribe(run, paths)] == expected
    other = [transcript.text for transcript in model.transcribe(run, paths, beam=2, ctc_weight=0.9)]
    assert other == model.decode(run, paths, beam=2, ctc_weight=0.9) != expected


def test_words_are_those_of_the_text_with_times_in_their_order(transcriber: Transcriber, paths: list[Path]) -> None:
    found = [transcriber.transcribe(path) for path in paths]
    assert sum(len(transcript.words) for transcript in found) > 5
    for transcript in found:
        assert [word.text for word in transcript.words] == transcript.text.split()
        times = [time for word in transcript.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert all(0.0 <= time <= transcript.seconds + 0.05 for time in times)
        assert all(0.0 < word.confidence <= 1.0 for word in transcript.words)
        for segment in transcript.segments:
            assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)


def test_a_text_that_has_no_alignment_shares_the_time_evenly(run: Run, paths: list[Path], monkeypatch) -> None:
    monkeypatch.setattr("model.transcription.segments.align_tokens", lambda *_: None)
    found = [transcript for transcript in model.transcribe(run, paths) if transcript.words]
    assert found
    for transcript in found:
        assert not any(word.is_aligned for word in transcript.words)
        lengths = [word.end - word.start for word in transcript.words]
        assert lengths == pytest.approx([lengths[0]] * len(lengths), abs=1e-6)
        assert transcript.words[-1].end == pytest.approx(transcript.seconds, abs=0.1)


def test_paths_bytes_arrays_and_channels_of_one_recording_agree(
    transcriber: Transcriber, paths: list[Path], tmp_path: Path
) -> None:
    expected = transcriber.transcribe(paths[0])
    samples = read_audio(paths[0])
    assert transcriber.transcribe(str(paths[0])) == expected
    assert transcriber.transcribe(paths[0].read_bytes()) == expected
    assert transcriber.transcribe(samples, 16_000) == expected
    two = np.stack([np.zeros_like(samples), samples], axis=1)
    soundfile.write(tmp_path / "two.wav", two, 16_000, subtype="DOUBLE")
    assert transcriber.transcribe(tmp_path / "two.wav", channel=1) == expected
    assert transcriber.transcribe(two, 16_000, channel=1) == expected
    assert transcriber.transcribe(two, 16_000).text == transcriber.transcribe(samples / 2, 16_000).text
    assert transcriber.transcribe(two, 16_000, channel=0).segments == ()


def test_what_cannot_be_used_is_named_in_its_place_and_the_rest_is_transcribed(
    transcriber: Transcriber, paths: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 16_000)
    given = [tmp_path / "text.wav", paths[0], tmp_path, tmp_path / "empty.wav", tmp_path / "nothing.wav", paths[1]]
    found = texts(transcriber.transcribe_all([*given, b"no audio", np.zeros(9)], channel=None))
    assert [found[1], found[5]] == texts(transcriber.transcribe_all(paths[:2]))
    assert found[0].startswith(f"error: {tmp_path}/text.wav: audio cannot be read (")
    assert found[2] == f"error: {tmp_path}: audio cannot be read (it is a folder or device); give another recording"
    assert found[3].startswith(f"error: {tmp_path}/empty.wav: audio cannot be read (")
    assert found[4] == f"error: {tmp_path}/nothing.wav: audio shorter than 0.1 s; give another recording"
    assert found[6].startswith("error: recording 6: audio cannot be read (")
    assert found[7] == "error: recording 7: is an array without a sample rate; give sample_rate in Hz"
    assert all("\n" not in line for line in found)
    with pytest.raises(UserError, match=r"no channel of this number \(channel 3 of 1\)|channel 3 of 1"):
        transcriber.transcribe(paths[0], channel=3)


def test_silence_has_no_text(transcriber: Transcriber) -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(40 * 16_000)
    for samples in (noise, np.zeros(16_000)):
        assert transcriber.transcribe(samples, 16_000) == Transcript((), len(samples) / 16_000)


def test_a_long_recording_says_what_its_parts_say_when_they_were_spoken(
    transcriber: Transcriber, paths: list[Path]
) -> None:
    # Equally loud noise from end to end, so that only the edges of the pieces differ from the single recordings.
    parts = [np.concatenate([np.zeros(24_000), read_audio(path)]) for path in paths]
    found = transcriber.transcribe(np.concatenate(parts), 16_000)
    starts = np.cumsum([0, *(len(part) for part in parts)]) / 16_000
    held = [int(np.searchsorted(starts, segment.start, side="right")) - 1 for segment in found.segments]
    assert held == sorted(held)
    assert len(set(held)) > len(paths) / 2
    for place, segment in zip(held, found.segments, strict=True):
        assert starts[place] + 1.4 <= segment.start <= segment.end <= starts[place + 1] + 0.05


def test_memory_that_does_not_suffice_halves_a_batch(
    transcriber: Transcriber, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = texts(transcriber.transcribe_all(paths))
    whole, sizes = room.beam_search, list[int]()

    def search(model, encoded, *settings, **more):
        sizes.append(len(encoded.states))
        if len(encoded.states) > most:
            raise MemoryError
        return whole(model, encoded, *settings, **more)

    monkeypatch.setattr(room, "beam_search", search)
    most = 3
    assert texts(transcriber.transcribe_all(paths)) == expected
    assert max(sizes) == len(paths)
    most = 0
    with pytest.raises(OutOfMemoryError, match=r"transcribing 1 pieces x \d+ frames, beam 4 .* allow shorter pieces"):
        transcriber.transcribe(paths[0])


def test_progress_sums_up_to_the_audio(transcriber: Transcriber, paths: list[Path]) -> None:
    steps: list[float] = []
    silence = np.zeros(48_000)
    recordings = [read_audio(path) for path in paths] + [silence]
    found = list(transcriber.transcribe_all(recordings, 16_000, on_progress=steps.append))
    assert sum(steps) == pytest.approx(sum(one.seconds for one in found if isinstance(one, Transcript)))


def test_recordings_are_read_as_they_are_needed() -> None:
    taken: list[int] = []

    def count() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = map_ahead(pool, lambda number: -number, count(), 4)
        assert [next(results) for _ in range(3)] == [0, -1, -2]
        assert len(taken) == 7
        assert list(results) == [-number for number in range(3, 100)]


def test_tokens_belong_to_the_word_that_they_spell(run: Run) -> None:
    tokenizer = run.require_tokenizer()
    text = "turn on the lamp"
    tokens = tokenizer.encode(text)
    places = place_tokens(tokenizer, tokens, 4)
    assert places[-1] is None, "eos spells nothing"
    for place, word in enumerate(text.split()):
        assert tokenizer.decode([token for token, at in zip(tokens, places, strict=True) if at == place]) == word


def test_exported_models_transcribe_as_their_run(
    folder: Path, transcriber: Transcriber, paths: list[Path], golden: Path, tmp_path: Path
) -> None:
    export_published(folder, tmp_path / "published")
    exported = model.load_transcriber(tmp_path / "published", decoding={"ctc_weight": 0.2})
    assert exported.transcribe(paths[0]).text == transcriber.transcribe(paths[0]).text
    assert exported.cutting == Cutting(longest=30.0)
    with pytest.raises(UserError, match="reguler_one_aux: has no tokenizer, so there is no text; give load_pretrained"):
        model.load_transcriber(golden / "reguler_one_aux")
    with pytest.raises(UserError, match="holds no checkpoint; give the folder of a training run"):
        model.load_transcriber(tmp_path)
