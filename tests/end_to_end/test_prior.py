"""A study that starts from what an earlier one found, and goes on without it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stub_training
from rich.console import Console

from study.execution.fork import fork_study
from study.ledger.events import PriorRead
from study.ledger.ledger import Ledger
from study.runner import Work, run_study

STUDY: dict[str, Any] = {
    "recipe": {"base": "tiny", "set": {"training.epochs": 2, "training.seed": stub_training.VARIES}},
    "search": {"ctc_weight": {"uniform": [0.1, 0.6]}, "auxiliary": {"count": [0, 1]}},
    "baselines": [],
    "confirmation": {"seeds": 0},
    "early_stopping": {"rule": "none"},
}


def run(path: Path, work: Work, trials: int, name: str = "later") -> Ledger:
    assert run_study(path, trials, console=Console(file=io.StringIO()), work=work) == 0
    return Ledger.open(Path("studies") / name)


def test_a_study_that_takes_trials_over_reads_its_prior_too(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    earlier = run(study_in(name="earlier", **STUDY), stub, trials=2, name="earlier")
    path = study_in(**STUDY | {"name": "later", "search": STUDY["search"] | {"prior": str(earlier.folder)}})
    fork_study(earlier, path, lambda line: None, prepare=stub_training.prepare)
    later = run(path, stub, trials=4)
    assert [record.source for record in later.trials.values()] == ["earlier/0", "earlier/1", None, None]
    assert later.trials.prior is not None


def test_a_study_tries_first_what_its_prior_found_and_needs_it_only_at_its_start(
    ray_here: None, stub: Work, study_in: Callable[..., Path]
) -> None:
    earlier = run(study_in(name="earlier", **STUDY), stub, trials=4, name="earlier")
    search = STUDY["search"] | {"prior": str(earlier.folder), "seed": 7}
    path = study_in(name="later", **STUDY | {"search": search})
    later = run(path, stub, trials=4)
    found = next(event for event in later.log.read() if isinstance(event, PriorRead)).found
    assert {one.recipe_class for one in found} == {"decred", "ed"}
    assert {record.recipe_hash for record in later.trials.values()} == {
        record.recipe_hash for record in earlier.trials.values()
    }, "two of each class, all of them found"
    shutil.rmtree(earlier.folder)
    longer = run(path, stub, trials=6)
    assert len(longer.trials) == 6
    assert [event for event in longer.log.read() if isinstance(event, PriorRead)] == [
        event for event in later.log.read() if isinstance(event, PriorRead)
    ]
