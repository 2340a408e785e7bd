"""A report's numbers, against the ledger that they come from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reported_study import SETS, read_json, write_study
from scipy.stats import t, ttest_rel

from study.ledger.ledger import Ledger
from study.ledger.pareto import find_front, make_front
from study.ledger.records import TrialState
from study.report.blocks import Chart, Grid, Text
from study.report.content import make_report
from study.report.course import list_trials
from study.report.document import make_sections
from study.report.landscape import make_planes, measure_interval
from study.report.progress import estimate_saved
from study.report.value import Report, to_json

GOLDEN = Path(__file__).parents[2] / "golden"


def read_lines(ledger: Ledger) -> list[dict[str, object]]:
    """The events as they lie in the file, without the code that folds them."""
    path = ledger.folder / "events" / "000001.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_verdicts_numbers_are_those_that_follow_from_the_events(ledger: Ledger, report: Report) -> None:
    lines = read_lines(ledger)
    finalists = next(line for line in lines if line["kind"] == "finalists_chosen")["finalists"]
    number_of = {one["recipe_class"]: one["number"] for one in finalists}  # type: ignore[attr-defined]
    starts = {
        line["number"]: line for line in lines if line["kind"] == "trial_started" and line.get("confirms") is not None
    }
    ends = {
        line["number"]: line["metrics"] for line in lines if line["kind"] == "trial_ended" and line["number"] in starts
    }

    def list_wers(name: str, key: str) -> list[float]:
        ours = [n for n, start in starts.items() if start["confirms"] == number_of[name]]
        ours.sort(key=lambda n: starts[n]["values"]["training.seed"])  # type: ignore[index]
        return [ends[n][key] for n in ours]  # type: ignore[index]

    verdict = read_json(to_json(report))["verdict"]
    assert verdict["classes"] == ["decred", "ed"]
    effects = {effect["name"]: effect for effect in verdict["effects"] if effect["figure"] == "wer"}
    for name in SETS:
        first, second = (list_wers(one, f"test/{name}/wer") for one in ("decred", "ed"))
        differences = [a - b for a, b in zip(first, second, strict=True)]
        half = t.ppf(0.975, 2) * stdev(differences) / math.sqrt(3)
        effect = effects[name]
        assert effect["first"] == pytest.approx(fmean(first))
        assert effect["second"] == pytest.approx(fmean(second))
        assert effect["difference"] == pytest.approx(fmean(differences))
        assert [effect["low"], effect["high"]] == pytest.approx([fmean(differences) - half, fmean(differences) + half])
        assert effect["p"] == pytest.approx(ttest_rel(first, second).pvalue)
        assert effect["first_seeds"] == pytest.approx(first)
    means = [
        [fmean(pair) for pair in zip(*(list_wers(one, f"test/{name}/wer") for name in SETS), strict=True)]
        for one in ("decred", "ed")
    ]
    assert effects["mean of 2 sets"]["difference"] == pytest.approx(fmean(means[0]) - fmean(means[1]))
    assert effects["mean of 2 sets"]["first_seeds"] == pytest.approx(means[0])


def test_where_epochs_score_a_part_of_the_dev_sets_the_report_says_so_and_mixes_nothing(report: Report) -> None:
    part = {"dev/utterances": 50.0, "dev/in_domain/ilm_perplexity": 7.0, "dev/in_domain/ilm_perplexity_final": 8.0}
    of_part = [
        replace(one, metrics={**one.metrics, **part}) if one.state == "complete" else one for one in report.trials
    ]
    plane = next(one for one in make_planes(of_part) if one.name == "dev sets, in domain")
    assert (plane.x_metric, plane.y_metric) == ("dev/in_domain/ilm_perplexity_final", "dev/in_domain/wer_final")
    assert {point.x for point in plane.points} == {8.0}
    note = "Figures of the dev sets that are not called final are of 50 utterances (validation.utterances)."
    texts = [block.text for block in list_trials(replace(report, trials=tuple(of_part))) if isinstance(block, Text)]
    assert note in texts
    assert not any("validation.utterances" in str(block) for block in list_trials(report))


def test_the_best_trial_and_the_baselines_are_those_of_the_events(ledger: Ledger, report: Report) -> None:
    lines = read_lines(ledger)
    metrics = {
        line["number"]: line["metrics"]
        for line in lines
        if line["kind"] == "trial_ended" and line["state"] == "complete"
    }
    standings = {one.role: one for one in report.standings}
    finalists = next(line for line in lines if line["kind"] == "finalists_chosen")["finalists"]
    assert standings["best trial"].number in [one["number"] for one in finalists]  # type: ignore[attr-defined]
    assert standings["baseline ed"].figure == pytest.approx(metrics[0]["dev/wer_final"])  # type: ignore[index]
    assert standings["baseline decred-paper"].figure == pytest.approx(metrics[1]["dev/wer_final"])  # type: ignore[index]
    assert "Best trial: " in " ".join(report.headline)
    assert "Baselines, final dev WER: ed (trial 0000)" in " ".join(report.headline)


def test_published_figures_stand_beside_those_of_the_same_sets(report: Report) -> None:
    assert [row.name for row in report.tests.published] == ["ED base", "DeCRED base"]
    assert report.tests.published[0].figures["test-in"]["wer"] == 7.5


def test_no_trial_is_left_out_without_being_counted(report: Report) -> None:
    states = {trial.state for trial in report.trials}
    assert states == {"complete", "pruned", "failed", "infeasible"}
    shown = sum(trial.is_search and trial.figure is not None for trial in report.trials)
    left = sum(trial.is_search and trial.figure is None for trial in report.trials)
    assert report.progress.notes[0].startswith(f"{shown} trials shown; left out: ")
    counts = [int(part.split()[0]) for part in report.progress.notes[0].split("left out: ")[1].split(", ")]
    assert sum(counts) == left
    assert report.importance.trials + sum(report.importance.left_out.values()) == shown + left
    stopped = sum(trial.state == "pruned" for trial in report.trials)
    assert report.importance.left_out["stopped early: their last figures are of fewer epochs"] == stopped


def test_cells_of_the_heat_map_hold_every_trial_that_has_a_placement_once(report: Report) -> None:
    part = report.placements
    placed = [trial for trial in report.trials if trial.is_search and trial.figure is not None]
    assert sum(cell.count for cell in part.totals) == len(placed)
    with_classifiers = [trial for trial in placed if trial.values["auxiliary.placement"] != "none"]
    assert sum(cell.count for cell in part.cells) == len(with_classifiers)
    one = part.totals[0]
    figures = [trial.figure for trial in placed if trial.values["auxiliary.placement"] == one.placement]
    assert one.mean == pytest.approx(fmean(figures))  # type: ignore[type-var]
    assert (one.low, one.high) == measure_interval(figures)  # type: ignore[arg-type]


def test_hours_are_those_of_the_events(ledger: Ledger, report: Report) -> None:
    epochs = sum(line["kind"] == "trial_epoch" for line in read_lines(ledger))
    assert report.hours.groups["all"]["training"] == pytest.approx(epochs * 20 / 3600)
    assert report.hours.sums["all"] == pytest.approx(sum(sum(trial.spent.values()) for trial in report.trials))
    stopped = [record for record in ledger.trials.values() if record.state == "pruned"]
    assert report.hours.saved == pytest.approx(sum(map(estimate_saved, stopped)))
    assert report.hours.saved == pytest.approx(len(stopped) * 2 * 25 / 3600)  # two of four epochs, 25 s each


def test_the_decodings_of_finalists_are_read_from_the_ledger_or_from_their_folders(
    ledger: Ledger, report: Report
) -> None:
    surfaces = {surface.why: surface for surface in report.decodings}
    assert {"finalist of ed", "finalist of decred"} <= surfaces.keys()
    best = [one for one in surfaces["finalist of ed"].tried if one.is_best]
    assert len(best) == 1
    assert best[0].wer == min(one.wer for one in surfaces["finalist of ed"].tried)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_a_front_holds_the_pairs_that_none_beats_and_no_other(pairs: list[tuple[float, float]]) -> None:
    def is_beaten(pair: tuple[float, float]) -> bool:
        return any(a <= pair[0] and b <= pair[1] and (a, b) != pair for a, b in pairs)

    assert find_front(pairs) == {pair for pair in pairs if not is_beaten(pair)}


@pytest.mark.parametrize("name", ["study_format_1", "study_format_2", "study_version_0_3"])
def test_studies_of_every_format_have_a_report(name: str) -> None:
    report = make_report(Ledger.open(GOLDEN / name))
    assert report.headline[0].startswith("no verdict")
    assert len(report.trials) >= 10
    assert read_json(to_json(report))["counts"] == dict(report.counts)


@pytest.mark.parametrize("trials", [0, 1])
def test_a_study_that_has_hardly_begun_has_a_report_that_says_so(tmp_path: Path, trials: int) -> None:
    report = make_report(write_study(tmp_path / "young", trials, confirmed=False))
    words = " ".join(report.headline)
    assert "no verdict yet: the question is decred against ed" in words
    assert ("No trial has started." in words) == (trials == 0)
    assert ("Best trial: 0000 (ed)" in words) == (trials == 1)


def test_a_search_over_seeds_has_a_report_before_any_trial_has_one(tmp_path: Path) -> None:
    search = {"ctc_weight": {"uniform": [0.1, 0.6]}, "recipe": {"training.seed": {"choice": [1, 2]}}}
    ledger = write_study(tmp_path / "seeds", 0, confirmed=False, search=search)
    assert make_report(ledger).quantities == ()


def test_a_study_without_a_question_says_that_it_compares_nothing(tmp_path: Path) -> None:
    report = make_report(write_study(tmp_path / "open", 3, confirmed=False, question="none"))
    assert report.headline[0] == "no verdict: the study asks no question (question: none), so it compares no classes"


def test_two_objectives_have_a_plane_with_their_front_and_a_section_of_their_own(tmp_path: Path) -> None:
    ledger = write_study(tmp_path / "two", 20, objective={"second": "dev/ilm_perplexity", "limits": {"dev/wer": 11.0}})
    report, front = make_report(ledger), make_front(ledger.trials.values(), ledger.study.objective)
    assert front is not None
    (plane,) = (one for one in report.planes if one.is_objectives)
    assert (plane.y_metric, plane.x_metric) == ("dev/wer_final", "dev/ilm_perplexity")
    assert {point.number for point in plane.points if point.on_front} == {one.number for one in front.trials}
    assert 0 < len(plane.points) < sum(trial.state == "complete" and trial.is_search for trial in report.trials)
    assert max(point.y for point in plane.points) <= 11.0
    sections = {section.title: section.columns[0] for section in make_sections([report])}
    chart, grid, how, *_ = sections["Both objectives"]
    assert isinstance(chart, Chart)
    assert isinstance(grid, Grid)
    assert report.planes[int(chart.key)] is plane
    assert [int(row[0][:4]) for row in grid.rows] == [one.number for one in front.trials]
    assert "export STUDY --trial N" in str(how)
    of_one = make_sections([make_report(write_study(tmp_path / "one", 8))])
    assert "Both objectives" not in [section.title for section in of_one]


def test_two_objectives_without_a_trial_that_has_both_say_so(tmp_path: Path) -> None:
    ledger = write_study(tmp_path / "two", 8, confirmed=False, objective={"second": "dev/rtf"})
    sections = {section.title: section.columns[0] for section in make_sections([make_report(ledger)])}
    texts = [block.text for block in sections["Both objectives"] if isinstance(block, Text)]
    complete = sum(record.state is TrialState.COMPLETE for record in ledger.trials.values())
    assert texts == [
        "nothing to show: no complete trial within the limits has both figures",
        f"left out: {complete} trials, complete but without real-time factor",
    ]
