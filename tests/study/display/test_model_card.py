"""The card's metadata are Hugging Face's fields with the figures of the model, and its text says what is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from study.display.model_card import (
    CorpusFacts,
    ModelFacts,
    Training,
    list_limits,
    make_metadata,
    make_model_card,
    measure_over_seeds,
)

SETS: dict[str, dict[str, Any]] = {
    "train": {"role": "train", "domain": "in", "hours": 2.0, "utterances": 900},
    "near": {"role": "test", "domain": "in", "hours": 0.1, "utterances": 40},
    "far": {"role": "test", "domain": "out", "hours": 0.1, "utterances": 40},
}
DECODING = {"beam": 4, "ctc_weight": 0.3, "length_penalty": 1.0}


def training(number: int, seed: int, near: float) -> Training:
    metrics = {"dev/wer_final": 9.0, "test/near/wer": near, "test/far/wer": 2 * near, "test/near/cer": 1.0}
    return Training(number, seed, "hash", DECODING, metrics)


FACTS = ModelFacts(
    name="demo-0003",
    description="A recogniser.",
    training=training(3, 0, 10.0),
    repeats=(training(7, 1000, 11.0), training(8, 1001, 12.0), training(9, 1002, 13.0)),
    study="demo",
    corpus=CorpusFacts("spoken", "f" * 64, "basic 1", SETS),
    data_share=0.5,
    license="Apache-2.0",
    language="en",
    version="0.3.0",
)
# Of hub-docs' modelcard.md: fields of the metadata, of a result, of its dataset and of its metric.
FIELDS = {"language", "license", "license_name", "license_link", "library_name", "pipeline_tag", "tags", "metrics"}
RESULT = {
    "task": ({"type"}, {"name"}),
    "dataset": ({"type", "name"}, {"config", "split", "revision", "args"}),
    "metrics": ({"type", "value"}, {"name", "config", "args", "verified", "verifyToken"}),
}


def read_front(card: str) -> dict[str, Any]:
    start, front, text = card.split("---\n", 2)
    assert not start
    assert text.startswith("\n# ")
    content: dict[str, Any] = yaml.safe_load(front)
    return content


def test_the_metadata_have_the_documented_fields_and_no_others() -> None:
    for facts in (FACTS, replace(FACTS, license="My Licence", language=None, corpus=None)):
        front = read_front(make_model_card(facts, []))
        assert front == make_metadata(facts)
        assert front.keys() - FIELDS == {"model-index"}
        assert (front["library_name"], front["pipeline_tag"]) == ("decred-study", "automatic-speech-recognition")
        (model,) = front["model-index"]
        assert model.keys() == {"name", "results"}
        for result in model["results"]:
            assert result.keys() == RESULT.keys()
            for name, (required, optional) in RESULT.items():
                (part,) = result[name] if isinstance(result[name], list) else [result[name]]
                assert required <= part.keys() <= required | optional
                assert all(part[key] not in (None, "") for key in required)


def test_each_test_set_is_a_result_with_its_wer_and_the_interval_over_seeds() -> None:
    far, near = make_metadata(FACTS)["model-index"][0]["results"]
    assert near["dataset"] == {
        "name": "spoken, near",
        "type": "spoken",
        "config": "near",
        "split": "test",
        "args": {"normaliser": "basic 1", "domain": "in"},
    }
    assert near["metrics"] == [{"type": "wer", "name": "WER (%), mean over 3 seeds 12.00 [9.52, 14.48]", "value": 10.0}]
    assert (far["dataset"]["config"], far["metrics"][0]["value"]) == ("far", 20.0)
    assert "model-index" not in make_metadata(replace(FACTS, training=Training(3, 0, "hash", DECODING, {})))


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (None, {}),
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("cc-by-4.0", {"license": "cc-by-4.0"}),
        ("My Own, v1.0", {"license": "other", "license_name": "my-own-v1.0", "license_link": "LICENSE"}),
    ],
)
def test_a_licence_that_the_hub_does_not_know_is_other_with_a_name(given: str | None, fields: dict[str, str]) -> None:
    metadata = make_metadata(replace(FACTS, license=given))
    assert {key: value for key, value in metadata.items() if key.startswith("license")} == fields


def test_the_text_has_the_figures_the_verdict_and_how_to_use_it() -> None:
    card = make_model_card(FACTS, ["verdict: nothing is shown"])
    assert "| near | 10.00 | 12.00 [9.52, 14.48] | 3 |" in card
    assert "normalised by `basic 1`. Decoding: beam 4, CTC weight 0.3, length penalty 1." in card
    assert "- verdict: nothing is shown" in card
    for command in ("transcribe MODEL", "evaluate MODEL --corpus", "reproduce MODEL --corpus"):
        assert f"$ decred-study {command}" in card
    assert "The weights are licensed under Apache-2.0." in card
    assert "## What the study shows" not in make_model_card(FACTS, [])


def test_where_epochs_scored_a_part_of_the_dev_sets_the_perplexity_is_that_of_all_of_them() -> None:
    def row_of(**metrics: float) -> str:
        named = {f"dev/{name}": value for name, value in metrics.items()}
        one = replace(FACTS.training, metrics=FACTS.training.metrics | named)
        lines = make_model_card(replace(FACTS, training=one), []).splitlines()
        return next(line for line in lines if "internal LM" in line)

    assert "| 20.00 |" in row_of(ilm_perplexity=20.0)
    assert "| 30.00 |" in row_of(ilm_perplexity=20.0, ilm_perplexity_final=30.0)


def test_the_limits_say_what_was_not_tested_and_not_known() -> None:
    limits = " ".join(list_limits(FACTS))
    assert "Trained on 1.00 hours of the corpus spoken" in limits
    assert "Tested on far, near alone" in limits
    assert "seed" not in limits
    assert FACTS.corpus is not None
    only_near = replace(FACTS.training, metrics={"test/near/wer": 10.0})
    bare = replace(FACTS, training=only_near, repeats=FACTS.repeats[:1], language=None)
    limits = " ".join(list_limits(bare))
    assert "Not tested on speech of another domain" in limits
    assert "Trained again with 1 new seed; with fewer than 3" in limits
    assert "The language is not stated" in limits
    nothing = " ".join(list_limits(replace(bare, corpus=None, training=replace(only_near, metrics={}))))
    assert "hours and normaliser are not known" in nothing
    assert "No test set was scored" in nothing


def test_one_seed_has_a_mean_and_no_interval() -> None:
    one = measure_over_seeds(replace(FACTS, repeats=FACTS.repeats[:1]), "test/near/wer")
    assert str(one) == "11.00"
    assert measure_over_seeds(replace(FACTS, repeats=()), "test/near/wer") is None
