"""The interface for Python, on a run that is trained on the miniature corpus."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import model
from model.api import Run
from model.corpora.audio import read_audio
from model.corpora.corpus import Corpus
from model.errors import UserError
from model.training.loop import train
from model.weights.import_export import export_published

PUBLIC = ["decode", "load_pretrained", "load_run", "load_transcriber", "perplexities", "transcribe"]
TRAINED = {"training.epochs": 2, "optimiser.learning_rate": 1e-2, "encoder.cgmlp": 16, "encoder.feed_forward": 16}
# After two epochs the best hypothesis is empty; one for which length counts depends on the audio.
TRAINED |= {"decoding.beam": 4, "decoding.ctc_weight": 0.2, "decoding.length_penalty": 3.0}


@pytest.fixture(scope="module")
def reports() -> list[dict[str, float]]:
    return []


@pytest.fixture(scope="module")
def folder(make_recipe, tmp_path_factory: pytest.TempPathFactory, reports: list[dict[str, float]]) -> Path:
    """A trained run."""
    folder = tmp_path_factory.mktemp("api") / "run"
    train(make_recipe(TRAINED), folder, reports.append)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return model.load_run(folder)


@pytest.fixture(scope="module")
def dev(folder: Path, corpus: Corpus) -> list[tuple[Path, dict]]:
    """The audio file of each dev utterance, and what the training scored of it with the chosen weights."""
    cuts = [cut for name in corpus.set_names("dev") for cut in corpus.cuts(name)]
    files = {cut.id: Path(cut.recording.sources[0].source) for cut in cuts}
    scored = map(json.loads, (folder / "hypotheses" / "dev-final.jsonl").read_text().splitlines())
    return [(files[utterance["id"]], utterance) for utterance in scored]


def test_the_public_names_are_these() -> None:
    assert sorted(model.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(model))
    with pytest.raises(AttributeError, match="module 'model' has no attribute 'decod'"):
        _ = model.decod


@pytest.mark.parametrize("package", ["model", "study", "cluster"])
def test_packages_are_marked_as_typed(package: str) -> None:
    assert (Path(model.__file__).parents[1] / package / "py.typed").is_file()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, model; print([name for name in ('torch', 'lhotse', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_files_are_decoded_to_the_texts_that_training_scored(run: Run, dev) -> None:
    expected = [utterance["hypothesis"] for _, utterance in dev]
    assert len({*expected, ""}) > 2, "texts that differ"
    assert model.decode(run, [path for path, _ in dev]) == expected
    assert model.decode(run, str(dev[0][0])) == expected[:1]


def test_arrays_of_any_rate_and_number_of_channels_are_decoded_as_their_files(run: Run, dev, tmp_path: Path) -> None:
    paths = [path for path, _ in dev]
    texts = model.decode(run, paths)
    assert model.decode(run, [read_audio(path) for path in paths], 16_000) == texts
    others = model.decode(run, paths, beam=2, ctc_weight=0.9)
    assert others == model.decode(run, [read_audio(path) for path in paths], 16_000, 2, 0.9) != texts
    stereo = np.repeat(read_audio(paths[0])[::2, None], 2, axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 8000, subtype="DOUBLE")
    assert model.decode(run, [stereo], 8000) == model.decode(run, [tmp_path / "stereo.wav"])


def test_perplexities_are_those_that_training_reported(run: Run, reports, dev) -> None:
    texts = [utterance["reference"] for _, utterance in dev]
    values = model.perplexities(run, texts)
    expected = [np.exp(utterance["ilm_nll"] / utterance["tokens"]) for _, utterance in dev]
    assert values == pytest.approx(expected, rel=1e-4)
    assert np.mean(values) == pytest.approx(reports[-1]["dev/ilm_perplexity"], rel=1e-4)
    assert model.perplexities(run, texts[:1]) == pytest.approx(values[:1], rel=1e-5), "padding changes nothing"
    assert model.perplexities(run, []) == []


def test_an_exported_model_decodes_as_its_run(run: Run, folder: Path, dev, tmp_path: Path) -> None:
    export_published(folder, tmp_path / "exported")
    exported = model.load_pretrained(tmp_path / "exported")
    path = dev[0][0]  # alone: in the published layout padding reaches the utterances
    assert model.decode(exported, path) == model.decode(run, path)
    texts = [utterance["reference"] for _, utterance in dev]
    assert model.perplexities(exported, texts) == pytest.approx(model.perplexities(run, texts), rel=1e-4)


def test_a_published_checkpoint_without_a_tokenizer_has_no_text(golden: Path, run: Run, dev) -> None:
    pretrained = model.load_pretrained(golden / "reguler_one_aux")
    with pytest.raises(UserError, match="reguler_one_aux: has no tokenizer, so there is no text; give load_pretrained"):
        model.decode(pretrained, [dev[0][0]])
    assert run.tokenizer is not None
    with pytest.raises(UserError, match=r"tokenizer.model: its vocabulary is 40, but the recipe's .* is"):
        model.load_pretrained(golden / "reguler_one_aux", run.tokenizer.path)


def test_what_cannot_be_decoded_is_refused_in_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    for recording, message in (
        (tmp_path / "none.wav", r"none.wav: no such audio file; give another recording$"),
        (tmp_path / "text.wav", r"text.wav: audio cannot be read \(.*\); give another recording$"),
        (np.zeros(100), r"^recording 0: audio shorter than 0.1 s; give another recording$"),
        (np.full(9000, np.nan), r"^recording 0: audio holds values that are no numbers, or beyond all scales; "),
    ):
        with pytest.raises(UserError, match=message):
            model.decode(run, [recording], 16_000)
    with pytest.raises(UserError, match="decode was given an array without a sample rate; give sample_rate in Hz"):
        model.decode(run, [np.zeros(16_000)])
    with pytest.raises(UserError, match="holds no checkpoint; give the folder of a training run"):
        model.load_run(tmp_path)
