"""The verdict of a study from its trials alone: whom it compares, on what, and in which words."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from study.display.verdict import print_verdict
from study.ledger.events import AnyEvent, Finalist, FinalistsChosen, TrialEnded, TrialEpoch, TrialStarted, TrialState
from study.ledger.trials import Trials
from study.verdict.study_verdict import make_verdict
from study.verdict.words import describe_verdict

SELECTION = FinalistsChosen(
    metric="dev/wer_final",
    finalists=(
        Finalist(number=1, recipe_class="decred", figure=20.0, of=4),
        Finalist(number=0, recipe_class="ed", figure=21.0, of=5),
    ),
    looks=9,
)


def train(
    number: int, name: str, dev: float, seed: int | None = None, confirms: int | None = None, **tests: float
) -> list[AnyEvent]:
    metrics = {"dev/wer": dev, "dev/wer_final": dev}
    metrics |= {f"test/{key.replace('_', '-')}/wer": value for key, value in tests.items()}
    return [
        TrialStarted(
            number=number,
            recipe_class=name,
            confirms=confirms,
            values={} if seed is None else {"training.seed": seed},
        ),
        TrialEpoch(number=number, epoch=1, metrics={"dev/wer": dev}),
        TrialEnded(number=number, state=TrialState.COMPLETE, metrics=metrics),
    ]


def study(first: list[float], second: list[float], **more: list[float]) -> Trials:
    """A study whose two finalists have these WERs on test-in, seed by seed, and `more` sets with those of the first."""
    events = [*train(0, "ed", 21.0), *train(1, "decred", 20.0), SELECTION]
    number = 2
    for name, confirms, wers in (("decred", 1, first), ("ed", 0, second)):
        for seed, wer in enumerate(wers, start=1000):
            tests = {"test_in": wer} | {key: values[seed - 1000] for key, values in more.items()}
            events += train(number, name, 22.0 + confirms, seed, confirms, **tests)
            number += 1
    return Trials(events)


def describe(trials: Trials) -> list[str]:
    verdict = make_verdict(trials)
    assert verdict is not None
    return describe_verdict(verdict)


def test_a_shown_difference_is_said_with_its_direction_and_interval() -> None:
    answer, luck = describe(study([10.0, 10.2, 9.8, 10.1], [12.0, 12.1, 11.7, 12.3]))
    assert (
        answer == "verdict: decred has a lower WER than ed, by 2.00 points [1.75, 2.25] (96 %) on test-in, 4 seeds each"
    )
    assert luck == (
        "dev/wer_final when chosen and with new seeds: decred (trial 0001, best of 4) 20.00 -> 23.00, "
        "ed (trial 0000, best of 5) 21.00 -> 22.00; 9 looks at the dev sets, one of each new training at the test sets"
    )


def test_no_shown_difference_is_said_with_what_it_would_take() -> None:
    answer = describe(study([10.0, 12.0, 11.0], [11.0, 10.0, 11.5]))[0]
    assert answer == (
        "verdict: no difference in WER shown between decred and ed: +0.17 points [-4.33, 4.67] (96 %) on test-in, "
        "3 seeds each; to show 0.5 points would take about 86 more seeds"
    )


def test_sets_are_named_that_differ_for_themselves() -> None:
    flat = [30.0, 31.0, 29.0, 30.5]
    trials = study([10.0, 10.2, 9.8, 10.1], [13.0, 13.1, 12.7, 13.3], test_ood=flat)
    answer = describe(trials)[0]
    assert (
        "on the mean of 2 test sets, 4 seeds each; of single sets and domains it is shown on test-in -3.00 points"
        in answer
    )
    assert "test-ood" not in answer


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_say_nothing_of_configurations(seeds: int) -> None:
    answer = describe(study([10.0, 10.1][:seeds], [50.0, 51.0][:seeds]))[0]
    assert answer.startswith(
        f"verdict: decred against ed: nothing can be said of the configurations, {seeds} common seed"
    )
    assert answer.endswith("of 3 at least (confirmation.seeds)")


def test_only_seeds_that_both_were_trained_with_count() -> None:
    verdict = make_verdict(study([10.0, 10.1, 10.2, 10.3], [11.0, 11.2, 11.4]))
    assert verdict is not None
    assert verdict.seeds == (1000, 1001, 1002)


def test_a_study_without_confirmed_finalists_has_no_verdict() -> None:
    assert make_verdict(Trials()) is None
    assert make_verdict(study([], [])) is None
    assert make_verdict(study([10.0], [])) is None


class FakeLedger:
    """Trials and their folders."""

    def __init__(self, trials: Trials, folder: Path) -> None:
        self.trials, self._folder = trials, folder

    def trial_folder(self, number: int) -> Path:
        return self._folder / f"{number:04d}"


def test_with_too_few_seeds_the_models_at_hand_are_compared(tmp_path: Path) -> None:
    ledger = FakeLedger(study([0.0], [25.0]), tmp_path)
    for number, hypothesis in ((2, "turn the light on"), (3, "turn the night on")):
        folder = ledger.trial_folder(number) / "hypotheses"
        folder.mkdir(parents=True)
        for name in ("test-in", "dev-final"):
            line = {"id": "a", "reference": "turn the light on", "hypothesis": hypothesis, "speaker": "s"}
            (folder / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    printed = io.StringIO()
    print_verdict(ledger, Console(width=200, file=printed))  # type: ignore[arg-type]
    first, second, _ = printed.getvalue().splitlines()
    assert first.startswith(
        "the two models of seed 1000 on test-in: decred 0.00 %, ed 25.00 %, -25.00 points [-25.00, -25.00] over utter"
    )
    assert second.startswith("verdict: decred against ed: nothing can be said of the configurations")


def test_the_table_has_a_line_for_each_set_and_the_last_lines_are_the_verdict(tmp_path: Path) -> None:
    printed = io.StringIO()
    trials = study([10.0, 10.2, 9.8, 10.1], [12.0, 12.1, 11.7, 12.3], test_ood=[30.0, 31.0, 29.0, 30.5])
    print_verdict(FakeLedger(trials, tmp_path), Console(width=200, file=printed))  # type: ignore[arg-type]
    lines = printed.getvalue().splitlines()
    assert "decred against ed, 4 seeds each" in lines[0]
    row = ["test-in", "WER", "10.03", "12.03", "-2.00", "[-2.23,", "-1.77]", "0.000"]
    assert row in [line.split() for line in lines]
    assert lines[-2:] == describe(trials)
