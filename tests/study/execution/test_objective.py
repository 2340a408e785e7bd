"""An objective has to have a dev set that it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.corpora.corpus import Corpus, SetInfo
from model.errors import UserError
from study.execution.checks import check_objective

IN = SetInfo(role="dev", domain="in", utterances=3, seconds=9.0)
OUT = SetInfo(role="dev", domain="out", utterances=3, seconds=9.0)


def corpus(**sets: SetInfo) -> Corpus:
    return Corpus(Path("/speech"), "speech", "basic", "", sets, "abc", "basic 1")


@pytest.mark.parametrize("metric", ["dev/wer", "dev/macro_wer", "dev/in_domain/wer", "train/loss"])
def test_a_corpus_with_a_dev_set_in_domain_has_every_objective_but_those_out_of_domain(metric: str) -> None:
    check_objective(metric, corpus(dev=IN))


def test_an_objective_out_of_domain_needs_a_dev_set_out_of_domain() -> None:
    check_objective("dev/out_of_domain/wer", corpus(dev=IN, phone=OUT))
    message = (
        r"objective.metric is dev/out_of_domain/wer, but corpus /speech has no dev set with domain out; its dev sets: "
        r"dev \(in\). Give the corpus one, or choose dev/wer"
    )
    with pytest.raises(UserError, match=message):
        check_objective("dev/out_of_domain/wer", corpus(dev=IN))


def test_a_second_objective_without_its_dev_set_is_refused_by_its_own_name() -> None:
    with pytest.raises(
        UserError, match=r"objective.second is dev/out_of_domain/wer, but corpus /speech has no dev set"
    ):
        check_objective("dev/out_of_domain/wer", corpus(dev=IN), "second")
