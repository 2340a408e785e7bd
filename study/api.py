"""Studies from Python: open one that runs or has ended, look at its trials, take them to pandas.

import study

opened = study.open_study("studies/demo")
opened.best                       # the best trial's record, or None
opened.front                      # the Pareto front of a study of two objectives, or None
opened.trials[3].curve("dev/wer") # epoch -> WER
opened.to_pandas()                # a row a trial
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.recipe.recipe import Recipe
from study.config.places import study_folder
from study.config.study_file import StudyFile, read_study
from study.ledger.best import export_recipe, find_best
from study.ledger.ledger import Ledger
from study.ledger.pareto import Front, make_front
from study.ledger.records import TrialRecord

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class OpenedStudy:
    """A study as its ledger has it at the moment of opening; open it again to see what happened since."""

    folder: Path
    file: StudyFile
    trials: Mapping[int, TrialRecord]  # by number
    ledger: Ledger

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the lowest objective; None while there is none."""
        return find_best(self.trials.values(), self.file.objective)

    @property
    def front(self) -> Front | None:
        """The complete trials that no other one dominates; None for a study of one objective."""
        return make_front(self.trials.values(), self.file.objective)

    def read_recipe(self, number: int | None = None) -> Recipe:
        """The recipe of a trial, by default of the best one, with the decoding that was found for it; a UserError where
        there is none."""
        return export_recipe(self.ledger, number)[0]

    def to_pandas(self) -> pandas.DataFrame:
        """One row a trial, its number as index: state, searched values and metrics, the last ones and the final ones.

        Columns of searched values are called `values/NAME`; metrics keep their names, such as `dev/wer`.
        """
        import pandas

        rows = [
            {
                "number": record.number,
                "state": record.state.value,
                "baseline": record.baseline,
                "class": record.recipe_class,
                "confirms": record.confirms,
                "epochs": record.epoch,
                **{f"values/{name}": value for name, value in record.values.items()},
                **record.metrics,
                "started": record.started,
                "ended": record.ended,
                "retries": record.retries,
                "reason": record.reason,
                "source": record.source,
                "recipe_hash": record.recipe_hash,
            }
            for record in self.trials.values()
        ]
        return pandas.DataFrame(rows, columns=None if rows else ["number", "state"]).set_index("number")

    def curves_to_pandas(self) -> pandas.DataFrame:
        """One row for each epoch of each trial, indexed by number and epoch: every metric that was reported."""
        import pandas

        rows = [
            {"number": record.number, "epoch": report.epoch, "step": report.step, "time": report.time, **report.metrics}
            for record in self.trials.values()
            for report in record.epochs
        ]
        return pandas.DataFrame(rows, columns=None if rows else ["number", "epoch"]).set_index(["number", "epoch"])


def open_study(path: str | Path) -> OpenedStudy:
    """The study in a folder, or of a study file; a UserError where there is none."""
    path = Path(path)
    ledger = Ledger.open(path if path.is_dir() else study_folder(read_study(path)))
    return OpenedStudy(ledger.folder, ledger.study, ledger.trials, ledger)
