"""The lines of a Pareto front: its trials with figures of enough digits, what is left out, and how to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study.config.study_file import Objective
from study.display.front import MOST_TRIALS, describe_front
from study.ledger.records import TrialRecord, TrialState

STUDY = Path("studies/probe")


def record(number: int, **metrics: float) -> TrialRecord:
    named = {f"dev/{name}" if name != "parameters" else name: value for name, value in metrics.items()}
    return TrialRecord(number, TrialState.COMPLETE, metrics=named)


def lines(records: list[TrialRecord], **objective: Any) -> list[str]:
    return list(describe_front(records, Objective.model_validate(objective), STUDY))


def test_the_trials_of_the_front_stand_by_their_first_figure_with_both() -> None:
    records = [record(0, wer=12.0, rtf=0.012), record(1, wer=11.0, rtf=0.0131), record(2, wer=13.0, rtf=0.0121)]
    assert lines([*records, record(3, wer=9.0)], second="dev/rtf") == [
        "Pareto front of dev/wer and dev/rtf: 2 of 3 complete trials, which no other one dominates",
        "  0001  dev/wer 11.00  dev/rtf 0.0131",
        "  0000  dev/wer 12.00  dev/rtf 0.0120",
        "  complete but without dev/rtf: 0003",
        "  to export one of them: decred-study export studies/probe --trial N",
    ]


def test_numbers_of_parameters_are_whole() -> None:
    assert lines([record(0, wer=12.0, parameters=1_234_567.0)], second="parameters")[:2] == [
        "Pareto front of dev/wer and parameters: 1 of 1 complete trial, which no other one dominates",
        "  0000  dev/wer 12.00  parameters 1,234,567",
    ]


def test_without_a_trial_that_has_both_figures_it_says_so() -> None:
    assert lines([], second="dev/rtf") == [
        "Pareto front of dev/wer and dev/rtf: no complete trial within the limits has both figures yet"
    ]
    assert lines([record(0, wer=12.0)]) == [], "a study of one objective"


def test_a_long_front_is_cut() -> None:
    records = [record(number, wer=1.0 + number, rtf=1.0 - number / 100) for number in range(MOST_TRIALS + 3)]
    shown = lines(records, second="dev/rtf")
    assert shown[-2] == "  and 3 more, which `status --json` has"
    assert len(shown) == MOST_TRIALS + 3


def test_a_rank_by_a_stage_of_the_search_says_so() -> None:
    found = [("start", 30.0), ("beam 4", 20.0)]
    stages = [{"stage": name, "metrics": {"dev/wer": wer}} for name, wer in found]
    metrics = {"dev/wer": 30.0, "dev/wer_final": 20.0, "dev/perplexity": 3.0}
    records = [
        TrialRecord(number, TrialState.COMPLETE, metrics=metrics, decoding_stages=tuple(stages[: number + 1]))
        for number in range(2)
    ]
    assert lines(records, second="dev/perplexity")[0].endswith(
        "which no other one dominates; dev/wer_final by the best decoding until the stage 'start'"
    )
