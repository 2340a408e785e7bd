"""The README's chapter on corpora: each of its lines makes a corpus of a stand-in, and studies run on these corpora.

The stand-ins are spoken, in the layouts, rates and formats in which the corpora are published, and lie in the folders
that the lines name.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import spoken_corpora
from ray_head import BIN
from spoken_corpora import Sets
from typer.testing import CliRunner

from model.corpora.corpus import Corpus, read_corpus
from model.recipe.files import read_recipe
from study.cli.main import app
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

README = (Path(__file__).parents[2] / "README.md").read_text()
CHAPTER = README.split("\n## Corpora that you have\n")[1].split("\n## ")[0]
LINES, (MIX_LINE,) = [block.splitlines() for block in re.findall(r"```text\n(.*?)```", CHAPTER, re.DOTALL)]
PAGE = (Path(__file__).parents[2] / "model/docs/corpora.md").read_text()
(MIX,) = re.findall(r"```yaml\n(# mix\.yaml\n.*?)```", PAGE, re.DOTALL)
HOUR = 1e-4  # hours of a stand-in for each hour of a corpus

STAND_INS: dict[str, tuple[str, Callable[[Path], Sets]]] = {  # folder and content, by what a line reads
    "lhotse librispeech LibriSpeech": ("LibriSpeech", spoken_corpora.write_spoken_librispeech),
    "lhotse commonvoice cv-corpus-21.0": ("cv-corpus-21.0", spoken_corpora.write_spoken_common_voice),
    "lhotse tedlium TEDLIUM_release-3": ("TEDLIUM_release-3", spoken_corpora.write_spoken_ted_talks),
    "kaldi data/train data/dev data/test": ("data", spoken_corpora.write_spoken_calls),
    "manifest shar/train shar/dev": ("shar", spoken_corpora.write_spoken_podcasts),
    "hf saved/minds14": ("saved/minds14", spoken_corpora.write_spoken_minds14),
}
MINIATURE = {
    "tokenizer.vocabulary": 40,
    "data.speeds": [1.0],
    "encoder": {"layers": 1, "width": 16, "heads": 2, "feed_forward": 16, "cgmlp": 16, "channels": 2},
    "decoder": {"layers": 2, "width": 16, "heads": 2, "feed_forward": 16},
    "training.epochs": 1,
}


@dataclass(frozen=True)
class User:
    """A folder of corpora as they were published; what is said in each, and how its line of the README ends."""

    folder: Path
    said: dict[str, Sets]
    ends: dict[str, Future[subprocess.CompletedProcess[str]]]


def source_of(line: str) -> str:
    return line.removeprefix("decred-study prepare ").partition(" --")[0]


def out_of(line: str) -> str:
    return shlex.split(line)[-1]


def run_line(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line as it is written, in a process of its own."""
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    command = ["bash", "-c", line]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """One in whose folder all lines with a stand-in are run, two at a time, while tests wait for those they need."""
    folder = tmp_path_factory.mktemp("user")
    said = {}
    for line in LINES:
        if source_of(line) in STAND_INS:
            name, write = STAND_INS[source_of(line)]
            said[line] = write(folder / name)
    with ThreadPoolExecutor(2) as pool:
        yield User(folder, said, {line: pool.submit(run_line, line, folder) for line in said})


def evaluate_study(study: Path, corpus: Corpus) -> list[str]:
    """Run a study of one trial, and return what `evaluate` says of it: a line for each dev and test set."""
    ran = CliRunner().invoke(app, ["run", str(study)], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    (trial,) = Ledger.open(Path("studies/probe")).trials.values()
    assert (trial.state, len(trial.epochs)) == (TrialState.COMPLETE, 1)
    evaluated = CliRunner().invoke(app, ["evaluate", "studies/probe/trials/0000"], catch_exceptions=False)
    lines = evaluated.output.splitlines()
    dev_sets = corpus.set_names("dev")
    expected = {"dev": "dev"} | ({f"dev/{name}": name for name in dev_sets} if len(dev_sets) > 1 else {})
    expected |= {f"test/{name}": name for name in corpus.set_names("test")}
    for key in expected:
        assert f"{key}: WER {trial.metrics[f'{key}/wer']:.1f} %" in [line.partition("  ")[0] for line in lines]
    return lines


def make_study(study_in: Callable[..., Path], corpus: Corpus, **recipe: Any) -> Path:
    settings = {"base": "tiny", "set": MINIATURE | recipe}
    return study_in(corpus=str(corpus.folder), recipe=settings, question="none", trials=0)


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_readme_makes_a_corpus_that_a_study_runs_on(
    line: str, user: User, ray_here: None, study_in: Callable[..., Path]
) -> None:
    assert source_of(line) in STAND_INS, f"no stand-in for `{line}`; write one in tests/spoken_corpora.py"
    ended, said = user.ends[line].result(), user.said[line]
    assert ended.returncode == 0, ended.stderr
    corpus = read_corpus(user.folder / out_of(line))
    assert corpus.name == Path(out_of(line)).name
    listed = ", ".join(f"{name} {info.utterances}" for name, info in corpus.sets.items())
    assert ended.stdout.splitlines() == [f"corpus in {corpus.folder}: {listed} utterances"], "nothing else was found"
    assert {name: (name.split("-")[0], "in") for name in corpus.sets} == {
        name: (info.role, info.domain) for name, info in corpus.sets.items()
    }
    entries = {name: list(corpus.entries(name)) for name in corpus.sets}
    if list(said) == ["train"]:  # divided
        assert list(entries) == ["train", "dev", "test"]
        entries = {"train": [entry for part in entries.values() for entry in part]}
    for name, sentences in said.items():
        seconds = {entry.text: entry.samples / 16_000 for entry in entries.pop(name)}
        assert seconds == pytest.approx({one.text: len(one.samples(16_000)) / 16_000 for one in sentences}, abs=0.1)
    assert not entries, "no set that was not said"
    evaluate_study(make_study(study_in, corpus), corpus)


@pytest.mark.slow
def test_the_mix_of_the_readme_is_made_of_their_corpora_and_trained_on(
    user: User, ray_here: None, study_in: Callable[..., Path]
) -> None:
    wait(user.ends.values())
    hours = re.compile(r"(?<=_hours: )\d+")
    assert len(hours.findall(MIX)) == 2
    (user.folder / "mix.yaml").write_text(hours.sub(lambda match: f"{int(match[0]) * HOUR:g}", MIX))
    fingerprints = set()
    for _ in range(2):
        ended = run_line(MIX_LINE, user.folder)
        assert ended.returncode == 0, ended.stderr
        corpus = read_corpus(user.folder / out_of(MIX_LINE))
        fingerprints.add(corpus.fingerprint)
    assert len(fingerprints) == 1
    assert {name: (info.role, info.domain, info.weight) for name, info in corpus.sets.items()} == {
        "librispeech-train-clean-100": ("train", "in", 1.0),
        "librispeech-dev-clean": ("dev", "in", 1.0),
        "librispeech-dev-other": ("dev", "in", 1.0),
        "librispeech-test-clean": ("test", "in", 1.0),
        "librispeech-test-other": ("test", "in", 1.0),
        "calls-train": ("train", "in", 2.0),
        "calls-dev": ("dev", "in", 1.0),
        "calls-test": ("test", "in", 1.0),
        "calls-dev-slice": ("dev", "in", 1.0),
        "minds14-dev": ("dev", "in", 1.0),
        "minds14-test": ("test", "out", 1.0),
    }
    whole = read_corpus(user.folder / "corpora" / "librispeech").sets["train-clean-100"]
    assert 100 * HOUR * 3600 <= corpus.sets["librispeech-train-clean-100"].seconds < whole.seconds
    speakers = {name: {entry.speaker for entry in corpus.entries(name)} for name in ("calls-train", "calls-dev-slice")}
    assert speakers["calls-dev-slice"]
    assert not speakers["calls-dev-slice"] & speakers["calls-train"]
    lines = evaluate_study(make_study(study_in, corpus, **{"data.temperature": 2.0}), corpus)
    assert any(line.startswith("out_of_domain: WER") for line in lines)
    assert read_recipe(Path("studies/probe/trials/0000/recipe.yaml")).data.temperature == 2.0
