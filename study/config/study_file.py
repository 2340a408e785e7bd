"""The study file: a search over recipes, written in YAML and read as one frozen, validated value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.errors import UserError
from model.recipe.files import PATH_KEYS, named_recipe, read_recipe, with_values
from model.recipe.recipe import Recipe
from model.strict import Strict, read_yaml, validate
from study.config.budget import BudgetSettings, check_budget
from study.config.disk import DiskSettings
from study.config.notify import NotifySettings, resolve_command
from study.config.object_store import ObjectStoreSettings
from study.config.question import DECRED, ConfirmationSettings, Question, list_classes
from study.config.run_settings import EarlyStoppingSettings, EpochMetric, FailureSettings, WorkerSettings
from study.config.search_settings import SearchSettings

DATABASE = "database"  # a key of earlier versions

SecondMetric = Literal[EpochMetric, "dev/rtf", "parameters"]
LimitedMetric = Literal[SecondMetric, "dev/rtf_final"]
Baseline = Literal["ed", "decred-paper", "decred-published", "decred-recipe", "interctc"]


class BaseRecipe(Strict):
    """The recipe that trials start from."""

    base: str = Field("tiny", description="tiny, small, base or a recipe file (ends in .yaml)")
    set: dict[str, Any] = Field({}, description="dotted recipe keys given another value")

    @property
    def is_file(self) -> bool:
        return Path(self.base).suffix in (".yaml", ".yml")


class Objective(Strict):
    """What the study minimises, by the recipe's `validation`; of a trial that has ended, with the weights it chose.

    dev/wer pools all dev sets, dev/macro_wer is the plain mean over them; in_domain and out_of_domain pool those of one
    domain. Test sets are scored after training, so no trial can be chosen by them. dev/rtf is the real-time factor:
    seconds of decoding, encoder and search, for each second of dev audio, both summed over the workers, in batches and
    without the making of features. It is measured where the trial runs, so trials are alike in it where they ran on
    like machines under like load, and a repeated trial differs.
    """

    metric: EpochMetric = Field("dev/wer", description="of the dev sets, or of training")
    mode: Literal["min"] = Field("min", description="the lowest is best")
    ranking: Literal["final", "validation"] = Field(
        "final",
        description="what the best trial is chosen by: the metric with the decoding that was found for each trial, or "
        "as validation has it; early stopping and the sampler see validation's in any case",
    )
    second: SecondMetric | None = Field(
        None,
        description="another metric to keep low, or the model's parameters: the complete trials that no other one "
        "dominates in both are shown as the Pareto front. Early stopping, the best trial and the finalists go by "
        "`metric` alone; so does the sampler tpe, unless early_stopping.rule is none: of stopped trials it can compare "
        "one figure only. null = one objective",
    )
    limits: dict[LimitedMetric, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="the most that a trial may have of a metric, or of parameters; one that has more is never the best "
        "one, a finalist or on the Pareto front, and the sampler avoids its like. dev/rtf is of validation's decoding, "
        "dev/rtf_final of the final one. A recipe with too many parameters is not trained",
    )

    @model_validator(mode="after")
    def _check_second(self) -> Objective:
        if self.second == self.metric:
            raise ValueError(
                f"second is {self.second}, and so is metric; name another metric, or leave second out for a study of "
                "one objective"
            )
        return self


class StudyFile(Strict):
    """A study: base recipe, search space, objective, budget, where it runs, tracking."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="its folder is storage/NAME")
    corpus: str = Field(description="folder of the corpus, relative to the study file")
    recipe: BaseRecipe = BaseRecipe()
    search: SearchSettings = SearchSettings()
    question: Question | None = Field(
        None,
        description="which classes of recipes get equal shares of the proposals and are compared in the end; null = "
        "decred against ed where search.auxiliary can answer it",
    )
    confirmation: ConfirmationSettings = ConfirmationSettings()
    objective: Objective = Objective()
    trials: Annotated[int, Field(ge=0)] = Field(20, description="sampled trials, beyond the baselines")
    budget: BudgetSettings | None = Field(
        None, description="the most that all sessions may use; null = only `trials` limits the study"
    )
    early_stopping: EarlyStoppingSettings = EarlyStoppingSettings()
    failures: FailureSettings = FailureSettings()
    score_tests: Literal["best", "all", "none"] = Field(
        "best",
        description="which trials' test sets are scored, once: those of named baselines, of confirmations and, when "
        "all trials have ended, of the best one; of all of them; or of none",
    )
    baselines: tuple[Baseline, ...] = Field(
        ("ed", "decred-paper"), description="named recipes that are tried before any sampling and never stopped early"
    )
    workers: WorkerSettings = WorkerSettings()
    tracking: str | None = Field(
        None,
        # An older study may hold a password, and notebooks show the value of a cell.
        repr=False,
        description="MLflow tracking URI, in which ${NAME} stands for an environment variable, as passwords have to; "
        "null = SQLite in the study folder",
    )
    register_as: str | None = Field(
        None,
        min_length=1,
        description="registered model of MLflow's that gets the best model as its version `best` when the study has "
        "ended; null = none",
    )
    storage: str = Field(
        "studies", description="folder that holds study folders, relative to the current one, or a file:// URI"
    )
    object_store: ObjectStoreSettings = ObjectStoreSettings()
    disk: DiskSettings = DiskSettings()
    notify: NotifySettings | None = Field(None, description="messages about the study; null = none")

    @model_validator(mode="before")
    @classmethod
    def _refuse_database(cls, content: Any) -> Any:
        if isinstance(content, dict) and DATABASE in content:
            raise ValueError(
                f"unknown key '{DATABASE}': Optuna's study is built in memory from the ledger since this version and "
                "needs no database; remove the key, and write a database for Optuna's own tools with "
                "`decred-study export STUDY --format optuna FILE.db`"
            )
        return content

    @model_validator(mode="after")
    def _check_consistency(self) -> StudyFile:
        if self.trials and self.search.is_empty:
            raise ValueError(
                f"trials is {self.trials}, but search names nothing to vary; "
                "give search.ctc_weight, search.auxiliary or search.recipe, or set trials to 0"
            )
        if not self.trials and not self.baselines:
            raise ValueError("trials is 0 and baselines is empty, so there is nothing to try; raise trials")
        check_budget(self.budget, self.workers)
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines is {list(self.baselines)}, but must name each one once")
        if self.trials and DECRED in list_classes(self.question or "none") and not self._searches_classifiers:
            raise ValueError(
                f"question is '{self.question}', but the search tries no auxiliary classifier; "
                "give search.auxiliary, or set question to none"
            )
        return self

    @property
    def effective_question(self) -> str:
        """What the study asks, `none` included."""
        if self.question is None:
            return "decred against ed" if self._searches_classifiers else "none"
        return self.question

    @property
    def classes(self) -> list[str]:
        """The classes of recipes that the study compares, the first one first; none where it asks nothing."""
        return list_classes(self.effective_question)

    @property
    def _searches_classifiers(self) -> bool:
        return self.search.auxiliary is not None and self.search.auxiliary.count[1] > 0


def read_study(path: Path) -> StudyFile:
    """The study in a YAML file; relative files and folders in it are relative to the file."""
    study = validate(StudyFile, read_yaml(path), str(path))
    folder = path.resolve().parent
    base, values = study.recipe.base, dict(study.recipe.set)
    if study.recipe.is_file:
        base = str((folder / base).resolve())
    for key in values.keys() & set(PATH_KEYS):
        if isinstance(values[key], str):
            values[key] = str((folder / values[key]).resolve())
    recipe = study.recipe.model_copy(update={"base": base, "set": values})
    search = study.search
    if search.prior is not None:
        search = search.model_copy(update={"prior": str((folder / search.prior).resolve())})
    changes: dict[str, Any] = {"corpus": str((folder / study.corpus).resolve()), "recipe": recipe, "search": search}
    if study.notify is not None and study.notify.command is not None:
        command = resolve_command(study.notify.command, str(folder))
        changes["notify"] = study.notify.model_copy(update={"command": command})
    return study.model_copy(update=changes)


def drop_unused_keys(content: Mapping[str, Any]) -> dict[str, Any]:
    """A study file of an earlier version without its key `database: null`, which had no effect."""
    return {key: value for key, value in content.items() if (key, value) != (DATABASE, None)}


def with_trials(study: StudyFile, trials: int | None) -> StudyFile:
    """The study with another budget of sampled trials."""
    if trials is None:
        return study
    return validate(StudyFile, study.model_dump(mode="json") | {"trials": trials}, "--trials")


def make_base_recipe(study: StudyFile) -> Recipe:
    """The recipe that every trial starts from, on the study's corpus."""
    if study.recipe.is_file:
        recipe = read_recipe(Path(study.recipe.base))
    else:
        recipe = named_recipe(study.recipe.base, study.corpus)
    if {"data.corpus", "data.fingerprint"} & study.recipe.set.keys():
        raise UserError(f"study '{study.name}': recipe.set changes data.corpus; name the corpus under 'corpus' instead")
    return with_values(recipe, study.recipe.set | {"data.corpus": study.corpus}, f"study '{study.name}': recipe.set")


def make_json_schema() -> str:
    """The study file's JSON schema, with which editors complete and check keys."""
    return json.dumps(StudyFile.model_json_schema(), indent=2) + "\n"
