from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from recordings import write_segments

from model.corpora.corpus import Corpus, SetKind, read_corpus
from model.corpora.mix import mix_corpora
from model.corpora.preparation import Preparation, prepare_corpus
from model.corpora.source import Source
from model.errors import UserError

SECONDS = 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora to train on, whose training sets have 10 speakers each, and one with a test set alone."""
    folder = tmp_path_factory.mktemp("corpora")
    sets = {"news": {"train": 20, "train-more": 10, "dev": 3, "test": 2}, "calls": {"train": 30, "test": 3}}
    for name, counts in (sets | {"far": {"test": 4}}).items():
        segments = write_segments(folder / f"{name}-audio", counts, SECONDS, speakers=10)
        prepare_corpus(Source(name, name, segments), folder / name, Preparation())
    return folder


def mix(folder: Path, tmp_path: Path, *parts: dict, **values) -> Corpus:
    for part in parts:
        part["corpus"] = str(folder / part["corpus"])
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"name": "mix", "parts": list(parts)} | values))
    return mix_corpora(tmp_path / "mix.yaml", tmp_path / "out")


def test_a_mix_has_the_sets_of_its_corpora_under_their_names_with_the_audio_that_they_have(
    folder: Path, tmp_path: Path
) -> None:
    corpus = mix(folder, tmp_path, {"corpus": "news"}, {"corpus": "calls"}, {"corpus": "far"})
    counts = {name: info.utterances for name, info in corpus.sets.items()}
    assert counts == {
        **{"news-train": 20, "news-train-more": 10, "news-dev": 3, "news-test": 2},
        **{"calls-train": 30, "calls-test": 3, "far-test": 4},
    }
    assert not (corpus.folder / "audio").exists()
    own = {entry.id: entry for entry in read_corpus(folder / "calls").entries("test")}
    for entry in corpus.entries("calls-test"):
        original = own[entry.id.removeprefix("calls-")]
        assert (entry.text, entry.speaker) == (original.text, f"calls-{original.speaker}")
        np.testing.assert_array_equal(corpus.read_samples(entry), read_corpus(folder / "calls").read_samples(original))
        cut = next(cut for cut in corpus.cuts("calls-test") if cut.id == entry.id)
        np.testing.assert_allclose(cut.load_audio()[0], corpus.read_samples(entry), atol=1e-6)


def test_sets_get_the_roles_and_domains_that_the_mix_gives_them(folder: Path, tmp_path: Path) -> None:
    sets = {"train-more": "none", "test": "dev:out"}
    corpus = mix(folder, tmp_path, {"corpus": "news", "sets": sets}, {"corpus": "far", "name": "moon", "weight": 3.0})
    kinds = {name: SetKind(role=info.role, domain=info.domain) for name, info in corpus.sets.items()}
    assert kinds == {
        "news-train": SetKind(role="train"),
        "news-dev": SetKind(role="dev"),
        "news-test": SetKind(role="dev", domain="out"),
        "moon-test": SetKind(role="test"),
    }


def hours(utterances: float) -> float:
    return utterances * SECONDS / 3600


def test_a_cap_takes_so_many_hours_of_training_speech_and_a_larger_one_takes_more_of_the_same(
    folder: Path, tmp_path: Path
) -> None:
    def ids(count: float) -> set[str]:
        corpus = mix(folder, tmp_path, {"corpus": "news", "cap_hours": hours(count)})
        assert {name: corpus.sets[name].utterances for name in ("news-dev", "news-test")} == {
            "news-dev": 3,
            "news-test": 2,
        }
        return {entry.id for name in corpus.set_names("train") for entry in corpus.entries(name)}

    assert len(ids(9)) == 9
    assert ids(3) < ids(9) < ids(18)
    assert ids(1000) == ids(30)


def test_a_dev_slice_has_whole_speakers_that_are_not_trained_on(folder: Path, tmp_path: Path) -> None:
    corpus = mix(folder, tmp_path, {"corpus": "calls", "dev_hours": hours(5), "cap_hours": hours(12)})
    speakers = {name: {entry.speaker for entry in corpus.entries(name)} for name in corpus.sets}
    assert corpus.sets["calls-dev-slice"].role == "dev"
    assert 5 <= corpus.sets["calls-dev-slice"].utterances < 5 + 3, "a speaker has three utterances"
    assert not speakers["calls-dev-slice"] & speakers["calls-train"]
    assert corpus.sets["calls-train"].utterances == 12


def test_weights_are_those_of_training_sets(folder: Path, tmp_path: Path) -> None:
    corpus = mix(folder, tmp_path, {"corpus": "news", "weight": 2.5}, {"corpus": "calls"})
    assert {name: info.weight for name, info in corpus.sets.items() if info.weight != 1.0} == {
        "news-train": 2.5,
        "news-train-more": 2.5,
    }


def test_the_fingerprint_is_that_of_the_corpora_and_of_what_is_taken(folder: Path, tmp_path: Path) -> None:
    def fingerprint(*parts: dict, **values) -> str:
        return mix(folder, tmp_path, *parts, **values).fingerprint

    first = fingerprint({"corpus": "news"}, {"corpus": "far"})
    assert fingerprint({"corpus": "far"}, {"corpus": "news"}) == first
    assert fingerprint({"corpus": "news"}, {"corpus": "far", "sets": {"test": "test:out"}}) != first
    capped = [fingerprint({"corpus": "news", "cap_hours": hours(9)}, seed=seed) for seed in (0, 1)]
    weighted = fingerprint({"corpus": "news", "weight": 2}, {"corpus": "far"})
    assert len({first, weighted, *capped}) == 4


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"corpus": "moon"}], r"moon: no such folder; make one with"),
        ([{"corpus": "news", "sets": {"tain": "none"}}], r"has no set 'tain'; did you mean 'train'\?"),
        ([{"corpus": "news", "sets": {"test": "exam"}}], r"'exam' is no kind of set; give train, dev, test, dev:out"),
        (
            [{"corpus": "news"}, {"corpus": "news"}],
            r"two of its parts are called 'news'; give one of them another name",
        ),
        ([{"corpus": "news", "weight": 0}], r"parts.0.weight"),
        (
            [{"corpus": "news"}, {"corpus": "calls", "dev_hours": 1}],
            r"calls: with dev_hours 1 all of set 'train' would be dev, 0.00417 hours of whole speakers; give fewer",
        ),
        ([{"corpus": "news", "hours": 3}], r"unknown key 'parts.0.hours'"),
        ([], r"parts"),
    ],
)
def test_a_mix_that_cannot_be_is_one_line_and_leaves_nothing(
    folder: Path, tmp_path: Path, parts: list[dict], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        mix(folder, tmp_path, *parts)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mix.yaml"]


def test_corpora_that_are_normalised_in_different_ways_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    segments = write_segments(tmp_path / "audio", {"train": 2, "dev": 1})
    prepare_corpus(Source("other", "o", segments), tmp_path / "other", Preparation(normaliser="none"))
    message = r"normalised in different ways \(news has basic 1, other has none 1\); prepare them alike"
    with pytest.raises(UserError, match=message):
        mix(folder, tmp_path, {"corpus": "news"}, {"corpus": str(tmp_path / "other")})


def test_a_mix_has_the_normaliser_s_version_of_its_corpora_and_takes_none_of_another(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "calls", tmp_path / "calls")
    for name, version in (("news", "basic 0"), ("calls", "basic 1")):
        file = (folder if name == "news" else tmp_path) / name / "corpus.yaml"
        file.write_text(file.read_text().replace("normaliser_version: basic 1", f"normaliser_version: {version}"))
    assert mix(folder, tmp_path, {"corpus": "news"}).normaliser_version == "basic 0"
    with pytest.raises(UserError, match=r"\(news has basic 0, calls has basic 1\)"):
        mix(folder, tmp_path, {"corpus": "news"}, {"corpus": str(tmp_path / "calls")})


def test_a_mix_is_not_written_over_one_of_its_corpora(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(yaml.safe_dump({"name": "news", "parts": [{"corpus": str(folder / "news")}]}))
    with pytest.raises(UserError, match=r"lies inside the corpus folder .*; give another --out"):
        mix_corpora(tmp_path / "mix.yaml", folder / "news")
    assert read_corpus(folder / "news").sets["train"].utterances == 20


DECRED = Path(__file__).parents[3] / "search_spaces" / "mixes" / "decred.yaml"


def test_the_mix_of_the_paper_has_seven_sets_in_domain_four_out_of_it_and_the_published_figures(tmp_path: Path) -> None:
    sets = {
        **dict.fromkeys(("commonvoice", "tedlium", "voxpopuli", "fleurs", "ami"), ("train", "dev", "test")),
        "fisher-swbd": ("train_fisher", "train_swbd"),
        "librispeech": ("train-clean-100", "dev-clean", "test-clean", "test-other"),
        "wsj": ("train_si284", "dev_93", "test_eval92"),
        "eval2000": ("eval2000",),
        "gigaspeech": ("XL", "DEV", "TEST"),
        "earnings22": ("earnings22",),
    }
    for name, names in sets.items():
        segments = write_segments(
            tmp_path / f"{name}-audio", {one: 12 if "train" in one else 1 for one in names}, 0.3, 12
        )
        kinds = {"XL": SetKind(role="train"), "earnings22": SetKind(role="test")}
        given = {one: kinds[one] for one in names if one in kinds}
        prepare_corpus(Source(name, name, segments), tmp_path / name, Preparation(kinds=given))
    content = DECRED.read_text().replace("dev_hours: 5", "dev_hours: 0.0002")
    (tmp_path / "decred.yaml").write_text(content)
    corpus = mix_corpora(tmp_path / "decred.yaml", tmp_path / "out")
    assert len(corpus.set_names("test", "in")) == 7
    assert len(corpus.set_names("test", "out")) == 4
    assert {name.split("-")[0] for name in corpus.set_names("train")} == {
        *("commonvoice", "fisher", "librispeech", "tedlium", "voxpopuli", "wsj"),
    }
    assert corpus.references.keys() == set(corpus.set_names("test"))
    assert all(figures.keys() == {"ED base", "DeCRED base"} for figures in corpus.references.values())
    for domain, means in (
        ("in", {"ED base": 6.4, "DeCRED base": 6.3}),
        ("out", {"ED base": 18.2, "DeCRED base": 16.2}),
    ):
        for system, mean in means.items():
            rates = [corpus.references[name][system]["wer"] for name in corpus.set_names("test", domain)]
            assert sum(rates) / len(rates) == pytest.approx(mean, abs=0.06), "as the paper averages them"


def test_figures_of_sets_that_a_mix_lacks_are_left_out(folder: Path, tmp_path: Path) -> None:
    references = {"news-test": {"A": {"wer": 5.0}}, "moon-test": {"A": {"wer": 7.0}}}
    corpus = mix(folder, tmp_path, {"corpus": "news"}, references=references)
    assert corpus.references == {"news-test": {"A": {"wer": 5.0}}}
