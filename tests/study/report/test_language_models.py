"""What records and reports say of language models in a decoding that was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.recipe.decoding import DecodingConfig
from study.ledger.events import SessionStarted, TrialDecodingSearched, TrialStarted
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.report import course
from study.report.blocks import Grid
from study.report.progress import make_decodings
from study.tracking.run_content import build_trial_run

FUSED = {"lm": "/home/me/lm.safetensors", "lm_fingerprint": "abc", "lm_weight": 0.3, "ilm_weight": 0.1}


def make_record(*changes: dict[str, Any]) -> TrialRecord:
    """A trial whose search tried a decoding with each of these changes, the last one the best."""
    decodings = [DecodingConfig().model_copy(update=change).model_dump(mode="json") for change in changes]
    tried = tuple(
        {"stage": "start", "decoding": decoding, "words": {"dev": [9 - number, 0, 0, 10]}, "seconds": 1.0}
        for number, decoding in enumerate(decodings)
    )
    found = TrialDecodingSearched(time=2.0, number=0, decoding=decodings[-1], tried=tried, stages=(), seconds=2.0)
    return Trials([SessionStarted(time=0.5), TrialStarted(time=1.0, number=0, recipe_hash="a"), found])[0]


def make_grid(record: TrialRecord) -> Grid:
    (surface,) = make_decodings({0: record}, {0: "best"}, lambda number: Path("nowhere"))
    return course._make_decodings(surface)


def test_the_table_of_decodings_has_a_column_of_language_models_where_any_were_tried() -> None:
    grid = make_grid(make_record({}, FUSED, {"ilm_weight": 0.2}))
    place = grid.header.index("language models")
    assert [row[place] for row in grid.rows] == ["none", "LM 0.3, ILM -0.1", "ILM -0.2"]
    assert all(len(row) == len(grid.header) for row in grid.rows)
    assert "language models" not in make_grid(make_record({}, {"beam": 4})).header


@pytest.mark.parametrize("change", [{}, {"lm": "/home/me/lm.safetensors", "lm_fingerprint": "abc"}])
def test_a_tracked_trial_without_language_models_names_none(change: dict[str, Any]) -> None:
    assert "lm" not in build_trial_run(make_record({}, change)).tags["trial.decoding"]


def test_a_tracked_trial_names_the_content_and_the_weights_of_language_models_and_no_place() -> None:
    tag = build_trial_run(make_record({}, FUSED)).tags["trial.decoding"]
    assert "lm_fingerprint abc, lm_weight 0.3, ilm_weight 0.1, ilm_estimator skipped" in tag
    assert "/home/me" not in tag
