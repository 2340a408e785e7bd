"""Saved views of MLflow's runs page: which columns, sorting and charts it opens with.

MLflow keeps them as tags of the experiment, in a format that it does not document; a test opens them in a browser. A
page that does not know one shows its plain list of runs. Nothing here imports MLflow.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from study.config.search_settings import SEED
from study.config.study_file import Objective
from study.ledger.trials import Trials
from study.tracking.charts import Figures, make_charts
from study.tracking.run_content import CHOSEN, REASON, RETRIES, ROLE, STATE

TAG = "mlflow.sharedViewState."  # before a view's key, in a tag of the experiment
ALL, VERDICT, DOMAINS, FAILURES = "all-trials", "verdict", "domains", "failures"
NAMES = {VERDICT: "verdict", ALL: "all trials", DOMAINS: "in and out of domain", FAILURES: "failures"}
NAME_COLUMN, CREATED_COLUMN, NOTE_COLUMN = "attributes.`Run Name`", "runDateAndNestInfo", "attributes.`Description`"
BEST = "best/"  # before the objective's name, in the study's own curve
_PIXELS = 7  # of a letter in a column's head


def best_curve_name(objective: Objective) -> str:
    """The metric of the study's own run: the best so far of what trials are chosen by."""
    return f"{BEST}{objective.metric}" + ("_final" if objective.ranking == "final" else "")


def build_views(trials: Trials, objective: Objective) -> dict[str, str]:
    """The experiment's tags that are its views, by their whole names; the same for the same trials."""
    figures = _find_figures(trials, objective)
    states = {
        ALL: _make_state(figures, _list_usual(figures), order=(_metric(figures.best), True)),
        # In the order of the alphabet backwards the study's own run comes first, then finalists and confirmations.
        VERDICT: _make_state(
            figures,
            [NOTE_COLUMN, *_list_tests(figures), _tag(ROLE), *_list_usual(figures)],
            order=(_tag(ROLE), False),
            search=f"{_tag(ROLE)} != 'proposal'",
        ),
        DOMAINS: _make_state(
            figures,
            [_tag(STATE), *_list_domains(figures), _param("class"), *_list_searched(figures)],
            order=(_metric(figures.best), True),
        ),
        FAILURES: _make_state(
            figures,
            [_tag(STATE), _tag(REASON), _tag(RETRIES), _metric(figures.objective), *_list_searched(figures)],
            order=(_tag(STATE), True),
            search="attributes.status = 'FAILED'",
        ),
    }
    if trials.selection is None:
        del states[VERDICT]
    created = round(1000 * (trials.began or 0.0))
    return {
        f"{TAG}{key}": json.dumps(
            {"name": NAMES[key], "createdAt": created, "updatedAt": created, "state": _pack(state)}
        )
        for key, state in states.items()
    }


def _pack(state: Mapping[str, Any]) -> str:
    """A state as MLflow's page unpacks it; many searched values would be longer than a tag may be."""
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()


def list_views(tags: Iterable[str]) -> list[str]:
    """The keys of the views among an experiment's tags, the one to open with first."""
    present = {name.removeprefix(TAG) for name in tags}
    return [key for key in NAMES if key in present]


def runs_page(server: str, experiment: str, view: str | None = None, charts: bool = False) -> str:
    """The address of an experiment's runs, in this view, as a table or as charts; without one, of all runs."""
    query = {"workflowType": "machine_learning"}  # else it is the page of applications that call language models
    # Any order but that of their starts, in which runs are hidden below the study's own.
    query |= {"viewStateShareKey": view} if view else {"orderByKey": _tag(STATE), "orderByAsc": "true"}
    query |= {"compareRunsMode": "CHART"} if charts else {}
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment)}/runs?{urlencode(query)}"


def _find_figures(trials: Trials, objective: Objective) -> Figures:
    metrics: dict[str, None] = {}
    searched: dict[str, None] = {}
    for record in trials.values():
        names = record.epochs[-1].metrics if record.epochs else {}
        metrics |= dict.fromkeys(names)
        metrics |= dict.fromkeys(f"{CHOSEN}{name}" if name in names else name for name in record.final_metrics)
        if record.confirms is None:
            searched |= dict.fromkeys(record.values)
    if any(SEED not in record.values for record in trials.values()):
        searched.pop(SEED, None)  # it is not searched: only repeats of a point have it
    metric = objective.metric
    wanted = [f"{metric}_final"] if objective.ranking == "final" else []
    best = next((name for name in (*wanted, f"{CHOSEN}{metric}") if name in metrics), metric)
    return Figures(metrics, tuple(searched), metric, best, best_curve_name(objective))


def _list_usual(figures: Figures) -> list[str]:
    """State, figures of the dev sets, and what was tried."""
    metric = figures.objective
    names = figures.choose(f"{metric}_final", f"{CHOSEN}{metric}", f"{CHOSEN}dev/ilm_perplexity")
    names += [*figures.choose(f"{CHOSEN}dev/out_of_domain/wer", "out_of_domain/wer"), metric]
    shown = [_tag(STATE), *(_metric(name) for name in dict.fromkeys(names))]
    return [*shown, _param("class"), *_list_searched(figures)]


def _list_tests(figures: Figures) -> list[str]:
    """The figures of the test sets and their means over domains: error rates first."""
    means = figures.choose("in_domain/wer", "out_of_domain/wer")
    of_sets = [name for name in figures.metrics if name.startswith("test/") and name.count("/") == 2]
    sets = [name for end in ("/wer", "/ilm_perplexity") for name in of_sets if name.endswith(end)]
    return [_metric(name) for name in (*means, *sets)]


def _list_domains(figures: Figures) -> list[str]:
    """The figures of both domains on the dev sets, then on the test sets."""
    dev = [
        f"{CHOSEN}dev/{domain}/{figure}"
        for figure in ("wer", "ilm_perplexity")
        for domain in ("in_domain", "out_of_domain")
    ]
    return [*(_metric(name) for name in figures.choose(*dev)), *_list_tests(figures)]


def _list_searched(figures: Figures) -> list[str]:
    return [_param(name) for name in figures.searched]


def _make_state(figures: Figures, columns: list[str], order: tuple[str, bool], search: str = "") -> dict[str, Any]:
    """A view as MLflow's page reads it.

    Sorted by the start time and not searched, it would hide trials below the study's own run.
    """
    columns = list(dict.fromkeys(columns))
    sections, charts = make_charts(figures)
    return {
        "searchFilter": search,
        "orderByKey": order[0],
        "orderByAsc": order[1],
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [NAME_COLUMN, CREATED_COLUMN, *columns],
        "columnWidths": {NAME_COLUMN: 165, CREATED_COLUMN: 110} | {name: _choose_width(name) for name in columns},
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "groupBy": None,
        "compareRunSections": sections,
        "compareRunCharts": charts,
        "isAccordionReordered": True,  # the sections stay in this order
    }


def _choose_width(column: str) -> int:
    """Pixels in which the head of a column is read in full, as far as that is possible."""
    if column in (NOTE_COLUMN, _tag(REASON)):
        return 315  # of 50 letters, which is all that the page shows of a note
    name = column.partition("`")[2].rstrip("`")
    return min(max(70, 34 + _PIXELS * len(name)), 230)


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _param(name: str) -> str:
    return f"params.`{name}`"


def _tag(name: str) -> str:
    return f"tags.`{name}`"
