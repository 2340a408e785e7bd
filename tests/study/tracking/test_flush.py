"""The line that says what MLflow lacks, why, and which command sends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.tracking.flush import describe_outdated

URI, STUDY, SEND = "http://host:5000", Path("study.yaml"), "with: decred-study track study.yaml --flush"


def test_nothing_is_said_of_runs_that_are_up_to_date() -> None:
    assert describe_outdated(0, URI, STUDY, refused=True, compared=False) == ""


@pytest.mark.parametrize(
    ("outdated", "refused", "compared", "line"),
    [
        (1, False, True, f"1 run is not up to date in MLflow at {URI}; send it {SEND}"),
        (2, False, True, f"2 runs are not up to date in MLflow at {URI}; send them {SEND}"),
        (2, False, False, f"2 runs may not be up to date in MLflow at {URI}, which did not answer; send them {SEND}"),
        (
            2,
            True,
            True,
            f"2 runs are not up to date in MLflow at {URI}, which refuses the credentials; set "
            f"MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, then send them {SEND}",
        ),
    ],
)
def test_the_line_counts_the_runs_and_names_reason_and_command(
    outdated: int, refused: bool, compared: bool, line: str
) -> None:
    assert describe_outdated(outdated, URI, STUDY, refused, compared) == line
