"""The study file: a search over recipes, written in YAML and read as one frozen, validated value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from model.errors import UserError
from model.recipe.files import PATH_KEYS, named_recipe, read_recipe, with_values
from model.recipe.recipe import Recipe
from model.strict import Strict, read_yaml, validate
from study.config.storage import storage_folder

Count = Annotated[int, Field(ge=1)]
EpochMetric = Literal[
    "dev/wer",
    "dev/cer",
    "dev/perplexity",
    "dev/ilm_perplexity",
    "train/loss",
    "train/loss_ctc",
    "train/loss_attention",
]


class Dimension(Strict):
    """The values one searched quantity may take: exactly one of the four forms."""

    uniform: tuple[float, float] | None = Field(None, description="[low, high], every value equally likely")
    log_uniform: tuple[float, float] | None = Field(None, description="[low, high], every magnitude equally likely")
    integer: tuple[int, int] | None = Field(None, description="[low, high], whole numbers, both ends included")
    choice: tuple[Any, ...] | None = Field(None, min_length=2, description="one of these values")

    @model_validator(mode="after")
    def _consistent(self) -> Dimension:
        given = [form for form in type(self).model_fields if getattr(self, form) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a searched quantity has {len(given)} forms, but must have one of uniform, log_uniform, integer, "
                "choice; write for example {uniform: [0.1, 0.6]}"
            )
        if self.choice is not None:
            if len({repr(value) for value in self.choice}) < len(self.choice):
                raise ValueError(f"choice is {list(self.choice)}, but must name each value once")
            return self
        low, high = self.range
        if low >= high:
            raise ValueError(f"{given[0]} is [{low:g}, {high:g}], but must be [low, high] with low below high")
        if self.log_uniform and low <= 0:
            raise ValueError(f"log_uniform starts at {low:g}, but must start above 0; raise it or use uniform")
        return self

    @property
    def range(self) -> tuple[float, float]:
        """[low, high] of every form but choice."""
        range_ = self.uniform or self.log_uniform or self.integer
        assert range_ is not None
        return range_


class AuxiliarySearch(Strict):
    """How many auxiliary classifiers, on which decoder layers, with which share of the loss."""

    count: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = Field(
        (0, 2), description="[fewest, most] auxiliary classifiers"
    )
    layers: tuple[int, ...] | None = Field(
        None, min_length=1, description="decoder layers that may carry one (1 = first); null = all but the last"
    )
    final_weight: tuple[float, float] = Field(
        (0.3, 0.9), description="[low, high] of the final classifier's share; the others divide the rest"
    )

    @model_validator(mode="after")
    def _consistent(self) -> AuxiliarySearch:
        fewest, most = self.count
        if fewest > most:
            raise ValueError(f"count is [{fewest}, {most}], but must be [fewest, most]; swap them")
        if self.layers is not None and list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"layers is {list(self.layers)}, but must be in ascending order, each layer once")
        low, high = self.final_weight
        shown = f"final_weight is [{low:g}, {high:g}]"
        if low <= 0:
            raise ValueError(f"{shown}, which leaves the final classifier nothing; raise the low end above 0")
        if high >= 1:
            raise ValueError(f"{shown}, which leaves auxiliary classifiers nothing; lower the high end below 1")
        if low > high:
            raise ValueError(f"{shown}, but must be [low, high]; swap them")
        return self


class Search(Strict):
    """Which quantities are searched, and by which sampler."""

    sampler: Literal["tpe", "random", "grid"] = "tpe"
    seed: Annotated[int, Field(ge=0)] = 0
    startup_trials: Annotated[int, Field(ge=0)] = Field(
        5, description="finished trials, baselines included, before TPE stops sampling at random"
    )
    grid_points: Annotated[int, Field(ge=2)] = Field(3, description="values the grid takes from each range")
    repeat_seed: bool = Field(
        True, description="a point that was tried before is trained with another seed; false = as it was"
    )
    ctc_weight: Dimension | None = Field(None, description="a in L = a L_CTC + (1 - a) sum_i w_i L_i")
    auxiliary: AuxiliarySearch | None = None
    recipe: dict[str, Dimension] = Field({}, description="any other dotted recipe key")

    @model_validator(mode="after")
    def _each_quantity_once(self) -> Search:
        if self.ctc_weight is not None and "loss.ctc_weight" in self.recipe:
            raise ValueError(
                "the CTC weight is searched twice, as 'ctc_weight' and as 'recipe: loss.ctc_weight'; remove one of them"
            )
        dotted = [key for key in self.recipe if key == "loss.auxiliary" or key.startswith("loss.auxiliary.")]
        if dotted:
            raise ValueError(
                f"'recipe' searches '{dotted[0]}', but placement and weights depend on each other; "
                "use 'auxiliary: {count: ..., layers: ..., final_weight: ...}' instead"
            )
        return self

    @property
    def empty(self) -> bool:
        return self.ctc_weight is None and self.auxiliary is None and not self.recipe


class BaseRecipe(Strict):
    """The recipe that trials start from."""

    base: str = Field("tiny", description="tiny, small, base or a recipe file (ends in .yaml)")
    set: dict[str, Any] = Field({}, description="dotted recipe keys given another value")

    @property
    def is_file(self) -> bool:
        return Path(self.base).suffix in (".yaml", ".yml")


class Objective(Strict):
    """What the study makes smaller. Test sets are scored once, after training, so none can be chosen by."""

    metric: EpochMetric = "dev/wer"
    mode: Literal["min"] = "min"


class EarlyStopping(Strict):
    """When a trial that lags behind is stopped."""

    rule: Literal["asha", "asha-promote", "median", "none"] = Field(
        "asha",
        description="asha stops what lags behind its rung; asha-promote pauses every trial at a rung and goes on with "
        "the best; median stops what is worse than the median of the others' means",
    )
    grace_epochs: Count = Field(3, description="the first rung: no trial is stopped before this epoch")
    reduction: Annotated[int, Field(ge=2)] = Field(3, description="one in this many goes on beyond a rung")


class Failures(Strict):
    """What becomes of trials that break."""

    retries: Annotated[int, Field(ge=0)] = Field(
        5, description="times that a trial goes on after it lost its workers or their machine"
    )
    same_error_stops: Count = Field(
        3, description="trials in a row that end with the same error before the study stops"
    )


class Workers(Strict):
    """The DDP workers of one trial, and what each of them takes."""

    count: Count = Field(1, description="workers of one trial")
    cpus: float = Field(1.0, gt=0, description="CPUs of one worker")
    gpus: float = Field(0.0, ge=0, description="GPUs of one worker")
    concurrent_trials: Count | None = Field(None, description="trials at the same time; null = as many as fit")


class StudyFile(Strict):
    """A study: base recipe, search space, objective, budget, where to run, tracking."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    corpus: str = Field(description="folder of the corpus, relative to the study file")
    recipe: BaseRecipe = BaseRecipe()
    search: Search = Search()
    objective: Objective = Objective()
    trials: Annotated[int, Field(ge=0)] = Field(20, description="sampled trials, beyond the baselines")
    early_stopping: EarlyStopping = EarlyStopping()
    failures: Failures = Failures()
    baselines: tuple[Literal["ed", "decred-paper", "interctc"], ...] = Field(
        ("ed", "decred-paper"),
        description="recipes tried before any sampling; `interctc` is the encoder's rival of `decred-paper`",
    )
    workers: Workers = Workers()
    tracking: str | None = Field(None, description="MLflow tracking URI; null = SQLite in the study folder")
    database: str | None = Field(
        None, description="Optuna's database, postgresql://...; null = SQLite in the study folder"
    )
    storage: str = Field(
        "studies", description="folder that holds study folders, relative to the current one, or a file:// URI"
    )

    @model_validator(mode="after")
    def _consistent(self) -> StudyFile:
        if self.trials and self.search.empty:
            raise ValueError(
                f"trials is {self.trials}, but search names nothing to vary; "
                "give search.ctc_weight, search.auxiliary or search.recipe, or set trials to 0"
            )
        if not self.trials and not self.baselines:
            raise ValueError("trials is 0 and baselines is empty, so there is nothing to try; raise trials")
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError(f"baselines is {list(self.baselines)}, but must name each one once")
        return self


def read_study(path: Path) -> StudyFile:
    """The study in a YAML file; the files and folders that it names are looked up beside it unless absolute."""
    study = validate(StudyFile, read_yaml(path), str(path))
    folder = path.resolve().parent
    base, values = study.recipe.base, dict(study.recipe.set)
    if study.recipe.is_file:
        base = str((folder / base).resolve())
    for key in values.keys() & set(PATH_KEYS):
        if isinstance(values[key], str):
            values[key] = str((folder / values[key]).resolve())
    recipe = study.recipe.model_copy(update={"base": base, "set": values})
    return study.model_copy(update={"corpus": str((folder / study.corpus).resolve()), "recipe": recipe})


def with_trials(study: StudyFile, trials: int | None) -> StudyFile:
    """The study with another budget of sampled trials."""
    if trials is None:
        return study
    return validate(StudyFile, study.model_dump(mode="json") | {"trials": trials}, "--trials")


def base_recipe(study: StudyFile) -> Recipe:
    """The recipe that every trial starts from, on the study's corpus."""
    if study.recipe.is_file:
        recipe = read_recipe(Path(study.recipe.base))
    else:
        recipe = named_recipe(study.recipe.base, study.corpus)
    if {"data.corpus", "data.fingerprint"} & study.recipe.set.keys():
        raise UserError(f"study '{study.name}': recipe.set changes data.corpus; name the corpus under 'corpus' instead")
    return with_values(recipe, study.recipe.set | {"data.corpus": study.corpus}, f"study '{study.name}': recipe.set")


def study_folder(study: StudyFile) -> Path:
    """Where the study's ledger lives."""
    return storage_folder(study.storage) / study.name


def json_schema() -> str:
    """The study file's JSON schema, so that editors complete and check it."""
    return json.dumps(StudyFile.model_json_schema(), indent=2) + "\n"
