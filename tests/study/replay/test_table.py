"""The table that is replayed: configurations, what they are worth, and what each part of a training cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded_trials import END, EPOCHS, SECONDS, START, make_recorded, make_recorded_table, make_training

from model.errors import UserError
from study.ledger.events import TrialState
from study.replay.table import make_table


def test_trainings_that_differ_in_their_seed_alone_are_one_configuration() -> None:
    table = make_recorded_table(5, seeds=3)
    assert len(table.configurations) == 5
    assert len(table.trainings) == 15


def test_a_configuration_is_worth_the_mean_of_its_other_seeds() -> None:
    table = make_recorded_table(5, seeds=3)
    figures = [training.figure for training in table.of_configuration(0)]
    assert table.worth(table.of_configuration(0)[0]) == pytest.approx((figures[1] + figures[2]) / 2)
    assert table.best() == pytest.approx(sum(figures) / 3)


def test_a_configuration_with_one_seed_is_worth_its_own_figure() -> None:
    table = make_recorded_table(5)
    assert all(table.worth(training) == training.figure for training in table.trainings)


def test_every_second_of_a_training_is_charged_once() -> None:
    (training, *_) = make_recorded_table().trainings
    assert training.costs == pytest.approx([START + SECONDS, *[SECONDS] * (EPOCHS - 1)])
    assert training.end_cost == pytest.approx(END)
    assert make_recorded_table().start_cost == pytest.approx(START)


def test_the_time_that_an_interrupted_trial_stood_still_is_not_charged() -> None:
    recorded = make_recorded([0.1, 0.2, 0.3, 0.4])
    first = recorded.records[0]
    late = tuple(replace(report, time=report.time + 3600 * (i > 1)) for i, report in enumerate(first.epochs))
    stood = replace(first, epochs=late, ended=(first.ended or 0) + 7200)
    table = make_table([replace(recorded, records=(stood, *recorded.records[1:]))])
    assert sum(table.trainings[0].costs) == pytest.approx(START + EPOCHS * SECONDS)
    assert table.trainings[0].end_cost == pytest.approx(3 * END)


def test_halves_share_no_sampled_configuration_but_the_baselines() -> None:
    recorded = make_recorded([number / 9 for number in range(9)])
    named = replace(recorded.records[0], baseline="ed")
    table = make_table([replace(recorded, records=(named, *recorded.records[1:]))])
    first, second = set(table.half(0).configurations), set(table.half(1).configurations)
    assert first & second == {0}
    assert first | second == set(table.configurations)
    assert len(first) == len(second) == 5


def test_only_trials_that_ran_to_their_end_are_in_the_table() -> None:
    recorded = make_recorded([0.1, 0.2, 0.3, 0.4])
    pruned = make_training(9, 0.5, state=TrialState.PRUNED)
    assert len(make_table([replace(recorded, records=(*recorded.records, pruned))]).trainings) == 4


def test_a_study_with_early_stopping_has_too_few_trials_and_the_error_says_why() -> None:
    recorded = make_recorded([0.1, 0.2, 0.3])
    records = (*recorded.records, make_training(9, 0.5, state=TrialState.PRUNED))
    message = (
        r"replay needs 4 configurations that ran to their end, but was given 3 and 1 pruned ones; run a study with "
        r"`early_stopping: \{rule: none\}`$"
    )
    with pytest.raises(UserError, match=message):
        make_table([replace(recorded, records=records)])


def test_studies_of_another_space_are_no_table_together() -> None:
    other = make_recorded([0.1], search={"ctc_weight": {"uniform": [0.0, 0.5]}}, name="other")
    with pytest.raises(UserError, match=r"^studies 'recorded' and 'other' have another space or objective"):
        make_table([make_recorded([0.1, 0.2, 0.3, 0.4]), other])
