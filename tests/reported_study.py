"""The folder of a study that was never run: its events, written down at once, as a search and its confirmation leave
them. Of any size, the same each time."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from planted_surfaces import RandomSource

from model.recipe.files import named_recipe
from model.recipe.recipe import Recipe
from study.config.question import class_of
from study.config.study_file import StudyFile
from study.ledger.event_lines import to_line
from study.ledger.events import (
    AnyEvent,
    Seconds,
    SessionStarted,
    StudyEnded,
    TrialDecodingSearched,
    TrialEnded,
    TrialEpoch,
    TrialStarted,
    TrialState,
)
from study.ledger.ledger import Ledger
from study.ledger.trials import Trials
from study.search.space import Space
from study.verdict.finalists import choose_finalists, list_new_seeds

BEGAN, EPOCH_SECONDS = 1_700_000_000.0, 30.0
SETS = {"test-in": 8.0, "test-ood": 20.0}
REFERENCES = {"test-in": {"ED base": {"wer": 7.5, "ilm_perplexity": 90.0}, "DeCRED base": {"wer": 7.0}}}
DECODINGS = ((1, 0.5), (1, 0.3), (1, 0.7), (4, 0.5), (4, 0.3))


def make_study_file(name: str, **changes: Any) -> StudyFile:
    """A study of decred against ed, over a CTC weight, classifiers and a learning rate."""
    content: dict[str, Any] = {
        "name": name,
        "corpus": "/speech",
        "search": {
            "ctc_weight": {"uniform": [0.1, 0.7]},
            "auxiliary": {"count": [0, 2]},
            "recipe": {"optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
        },
        "baselines": ["ed", "decred-paper"],
    }
    return StudyFile.model_validate(content | changes)


def write_study(folder: Path, count: int = 12, epochs: int = 4, confirmed: bool = True, **changes: Any) -> Ledger:
    """The study of so many trials in `folder`, which is named like it; of 7 trials one is stopped, some are not
    trainable or fail. Its finalists are confirmed with three seeds unless it is not `confirmed`."""
    study = make_study_file(folder.name, **changes)
    base = named_recipe("tiny", "/speech")
    Ledger.create_or_open(folder, study, base, {"references": REFERENCES, "packages": {"decred-study": "0.3.0"}})
    events = list(_make_events(study, base, count, epochs, confirmed))
    path = folder / "events" / "000001.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(map(to_line, events)))
    return Ledger.open(folder)


def _make_events(study: StudyFile, base: Recipe, trials: int, epochs: int, confirmed: bool) -> Iterator[AnyEvent]:
    space, draws = Space(study.search, base), random.Random(1)
    events: list[AnyEvent] = [SessionStarted(time=BEGAN, version="0.3.0", node="here", concurrency=1)]
    for number in range(trials):
        events += _make_trial(number, space, epochs, draws)
    folded = Trials(events)
    selection = choose_finalists(folded, study) if confirmed else None
    if selection is not None:
        selection = selection.model_copy(update={"time": events[-1].time})
        events.append(selection)
        number = trials
        for seed in list_new_seeds(study, 0):
            for finalist in selection.finalists:
                events += _confirm(number, finalist.number, finalist.recipe_class, seed, epochs, draws)
                number += 1
        events.append(StudyEnded(time=events[-1].time + 1, state=TrialState.COMPLETE, best=0, best_recipe_hash="x"))
    yield from events


def _make_trial(number: int, space: Space, epochs: int, draws: random.Random) -> list[AnyEvent]:
    named = {0: "ed", 1: "decred-paper"}.get(number)
    point = space.suggest(RandomSource(draws))
    while named and (point["auxiliary.count"] == 0) != (named == "ed"):
        point = space.suggest(RandomSource(draws))
    recipe = space.decode(point)
    begin = BEGAN + number * (epochs + 1) * EPOCH_SECONDS
    wer = 10.0 + 30.0 * (float(point["ctc_weight"]) - 0.3) ** 2 + draws.gauss(0.0, 0.3)
    wer -= 0.5 * len(recipe.loss.auxiliary.placement)
    if number % 50 == 13:
        reason, values = "the placement makes no recipe", space.describe_point(point)
        return [
            TrialEnded(
                time=begin, number=number, state=TrialState.INFEASIBLE, reason=reason, values=values, point=point
            )
        ]
    state = TrialState.PRUNED if number % 7 == 6 else TrialState.FAILED if number % 11 == 10 else TrialState.COMPLETE
    last = epochs if state is TrialState.COMPLETE else max(1, epochs // 2)
    start = TrialStarted(
        time=begin,
        number=number,
        recipe_hash=recipe.hash,
        values=space.describe_point(point),
        point=point,
        baseline=named,
        recipe_class=class_of(recipe),
        epochs=epochs,
    )
    found = [start, *_report(number, wer, epochs, last, begin)]
    if state is TrialState.COMPLETE:
        found.append(_search_decoding(number, wer, begin + (last + 0.5) * EPOCH_SECONDS))
    reason = {TrialState.PRUNED: "behind its rung", TrialState.FAILED: "NonFiniteLossError: loss is nan"}.get(state)
    metrics = _make_final(wer) if state is TrialState.COMPLETE else {}
    metrics |= _make_tests(wer, draws) if named and metrics else {}
    end = begin + (last + 0.9) * EPOCH_SECONDS
    return [*found, TrialEnded(time=end, number=number, state=state, reason=reason, metrics=metrics)]


def _report(number: int, wer: float, epochs: int, last: int, begin: float) -> list[AnyEvent]:
    return [
        TrialEpoch(
            time=begin + epoch * EPOCH_SECONDS,
            number=number,
            epoch=epoch,
            metrics={
                "dev/wer": wer * (1 + math.exp(-epoch)),
                "dev/ilm_perplexity": 30.0 + wer + epochs - epoch,
                "train/loss": 1.0 / epoch + wer / 100,
            },
            seconds=Seconds(training=20.0, validation=5.0, waiting=0.5),
            device="cpu",
        )
        for epoch in range(1, last + 1)
    ]


def _make_final(wer: float) -> dict[str, float]:
    return {
        "dev/wer": wer,
        "dev/wer_final": wer - 0.4,
        "dev/ilm_perplexity": 30.0 + wer,
        "dev/in_domain/wer": wer - 2,
        "dev/in_domain/wer_final": wer - 2.4,
        "dev/in_domain/ilm_perplexity": 25.0 + wer,
        "dev/out_of_domain/wer": wer + 2,
        "dev/out_of_domain/wer_final": wer + 1.6,
        "dev/out_of_domain/ilm_perplexity": 45.0 - wer,
        "decoding/seconds": 6.0,
    }


def _make_tests(wer: float, draws: random.Random) -> dict[str, float]:
    tests = {f"test/{name}/wer": wer / 10 + level + draws.gauss(0.0, 0.2) for name, level in SETS.items()}
    tests |= {f"test/{name}/ilm_perplexity": 40.0 + level + draws.gauss(0.0, 1.0) for name, level in SETS.items()}
    return tests


def _search_decoding(number: int, wer: float, time: float) -> AnyEvent:
    tried = []
    for beam, weight in DECODINGS:
        errors = round(10 * wer * (1 + abs(weight - 0.5) / 4) - beam)
        decoding = {"beam": beam, "ctc_weight": weight, "length_penalty": 1.0, "mixing": "none"}
        stage = "start" if (beam, weight) == DECODINGS[0] else f"CTC weight {weight:g}" if beam == 1 else f"beam {beam}"
        tried.append(
            {"stage": stage, "decoding": decoding, "words": {"dev": [errors, 0, 0, 1000]}, "seconds": 1.0 * beam}
        )
    stages = (
        {"stage": "start", "decoding": tried[0]["decoding"], "metrics": {"dev/wer": wer - 0.4, "dev/wer_final": wer}},
    )
    return TrialDecodingSearched(
        time=time, number=number, decoding=dict(tried[3]["decoding"]), tried=tuple(tried), stages=stages, seconds=9.0
    )


def _confirm(number: int, finalist: int, name: str, seed: int, epochs: int, draws: random.Random) -> list[AnyEvent]:
    begin = BEGAN + number * (epochs + 1) * EPOCH_SECONDS
    wer = 10.5 + draws.gauss(0.0, 0.2) - (0.8 if name == "decred" else 0.0)
    values: dict[str, Any] = {"training.seed": seed}
    start = TrialStarted(
        time=begin, number=number, values=values, recipe_class=name, confirms=finalist, epochs=epochs, recipe_hash="c"
    )
    metrics = _make_final(wer) | _make_tests(wer, draws)
    metrics |= {"test/test-in/wer": metrics["test/test-in/wer"] - (1.5 if name == "decred" else 0.0)}
    end = begin + (epochs + 0.9) * EPOCH_SECONDS
    return [
        start,
        *_report(number, wer, epochs, epochs, begin),
        _search_decoding(number, wer, begin + (epochs + 0.5) * EPOCH_SECONDS),
        TrialEnded(time=end, number=number, state=TrialState.COMPLETE, metrics=metrics),
    ]


def read_json(text: str) -> dict[str, Any]:
    """The content of a report's JSON."""
    content: dict[str, Any] = json.loads(text)
    return content
