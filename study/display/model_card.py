"""The card of an exported model: README.md with the metadata that Hugging Face reads, figures, limits and use.

The metadata's fields are those of Hugging Face's model card specification (hub-docs, modelcard.md): `model-index` has a
result for each test set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from study.verdict.seed_effects import INTERVAL, measure_effect

TASK = "automatic-speech-recognition"
PAPER = "https://arxiv.org/abs/2508.08938"
TAGS = [TASK, "speech", "audio", "decred", "ctc", "e-branchformer"]
# Identifiers that Hugging Face knows; any other licence is `other` with a name.
_LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear
bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-
by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-
permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openrail openrail++ osl-3.0 pddl postgresql unlicense unknown wtfpl zlib
"""
LICENSES = frozenset(_LICENSES.split())


@dataclass(frozen=True)
class Training:
    """One training of the configuration: its trial, seed, decoding in the end, and all final metrics."""

    trial: int | None
    seed: int
    recipe_hash: str
    decoding: dict[str, Any]
    metrics: dict[str, float]


@dataclass(frozen=True)
class CorpusFacts:
    """What is known of the corpus. `sets` has role, domain, hours and utterances of each set."""

    name: str
    fingerprint: str
    normaliser: str
    sets: dict[str, dict[str, Any]]

    def sum_hours(self, role: str) -> float:
        """The hours of all sets of a role."""
        return sum(info["hours"] for info in self.sets.values() if info["role"] == role)


@dataclass(frozen=True)
class ModelFacts:
    """What figures.json and the card have: `training` is of these weights, `repeats` are those with other seeds."""

    name: str
    description: str
    training: Training
    repeats: tuple[Training, ...] = ()
    study: str | None = None
    workers: dict[str, float] = field(default_factory=dict)  # of a training: count, cpus, gpus
    seconds: float | None = None  # from the training's start to its end
    data_share: float = 1.0
    corpus: CorpusFacts | None = None
    license: str | None = None
    language: str | None = None
    version: str = ""  # of decred-study


def make_model_card(facts: ModelFacts, verdict: list[str]) -> str:
    """The text of README.md; `verdict` are the study's lines."""
    sections = [f"# {facts.name}", facts.description, *_describe_figures(facts)]
    if verdict:
        sections += ["## What the study shows", "\n".join(f"- {line}" for line in verdict)]
    sections += ["## Limits", "\n".join(f"- {line}" for line in list_limits(facts)), *_describe_use(facts)]
    front = yaml.safe_dump(make_metadata(facts), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def make_metadata(facts: ModelFacts) -> dict[str, Any]:
    """The card's metadata; fields that are not known are left out."""
    metadata: dict[str, Any] = {}
    if facts.language is not None:
        metadata["language"] = [facts.language]
    metadata |= _describe_license(facts.license)
    metadata |= {"library_name": "decred-study", "pipeline_tag": TASK, "tags": TAGS, "metrics": ["wer"]}
    results = [_make_result(facts, name) for name in list_test_sets(facts.training)]
    if results:
        metadata["model-index"] = [{"name": facts.name, "results": results}]
    return metadata


def _describe_license(license_: str | None) -> dict[str, str]:
    if license_ is None:
        return {}
    if license_.lower() in LICENSES:
        return {"license": license_.lower()}
    slug = re.sub(r"[^a-z0-9.]+", "-", license_.lower()).strip("-")
    return {"license": "other", "license_name": slug, "license_link": "LICENSE"}


def _make_result(facts: ModelFacts, name: str) -> dict[str, Any]:
    corpus = facts.corpus
    dataset: dict[str, Any] = {
        "name": f"{corpus.name if corpus else 'unknown corpus'}, {name}",
        "type": corpus.name if corpus else "unknown",
        "config": name,
        "split": "test",
    }
    if corpus is not None:
        dataset["args"] = {"normaliser": corpus.normaliser} | (
            {"domain": corpus.sets[name]["domain"]} if name in corpus.sets else {}
        )
    over_seeds = measure_over_seeds(facts, f"test/{name}/wer")
    label = "WER (%)" + (f", mean over {over_seeds.seeds} seeds {over_seeds}" if over_seeds else "")
    metric = {"type": "wer", "name": label, "value": round(facts.training.metrics[f"test/{name}/wer"], 2)}
    return {"task": {"type": TASK, "name": "Automatic Speech Recognition"}, "dataset": dataset, "metrics": [metric]}


@dataclass(frozen=True)
class OverSeeds:
    """Mean of a figure over trainings that differ in the seed, and Student's interval of that mean."""

    mean: float
    interval: tuple[float, float]
    seeds: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.mean:.2f} [{low:.2f}, {high:.2f}]" if math.isfinite(low) else f"{self.mean:.2f}"


def measure_over_seeds(facts: ModelFacts, metric: str) -> OverSeeds | None:
    """A metric over the trainings with new seeds, among which nothing was chosen; None where there is none.

    With one seed the interval is infinite.
    """
    values = [training.metrics[metric] for training in facts.repeats if metric in training.metrics]
    if not values:
        return None
    effect = measure_effect(metric, values, [0.0] * len(values))
    return OverSeeds(effect.first, effect.interval, len(values))


def list_test_sets(training: Training) -> list[str]:
    """The test sets that were scored, by name."""
    parts = [name.split("/") for name in sorted(training.metrics)]
    return [part[1] for part in parts if len(part) == 3 and part[0] == "test" and part[2] == "wer"]


def _describe_figures(facts: ModelFacts) -> Iterator[str]:
    names = [("dev sets", "dev/wer_final")] + [(name, f"test/{name}/wer") for name in list_test_sets(facts.training)]
    names += [(name.replace("_", " "), f"{name}/wer") for name in ("in_domain", "out_of_domain")]
    of_all = "dev/ilm_perplexity_final"  # where epochs score a part of the dev sets
    ilm = of_all if of_all in facts.training.metrics else "dev/ilm_perplexity"
    names += [("dev sets, internal LM perplexity", ilm)]
    rows = [_make_row(facts, label, metric) for label, metric in names if metric in facts.training.metrics]
    yield "## Figures"
    yield "\n".join(
        [f"| set | this model | mean over new seeds [{INTERVAL:.0%} interval] | seeds |", "|---|---|---|---|", *rows]
    )
    normaliser = facts.corpus.normaliser if facts.corpus else "unknown"
    yield (
        "WER is 100 (S + D + I) / N over all utterances of a set together, in %. References and hypotheses are "
        f"normalised by `{normaliser}`. Decoding: beam {facts.training.decoding['beam']}, CTC weight "
        f"{facts.training.decoding['ctc_weight']:g}, length penalty {facts.training.decoding['length_penalty']:g}. "
        "This model was chosen by its dev sets, so its figures on them flatter it; those of new seeds do not."
    )


def _make_row(facts: ModelFacts, label: str, metric: str) -> str:
    over_seeds = measure_over_seeds(facts, metric)
    seeds = f"{over_seeds} | {over_seeds.seeds}" if over_seeds else "- | 0"
    return f"| {label} | {facts.training.metrics[metric]:.2f} | {seeds} |"


def list_limits(facts: ModelFacts) -> list[str]:
    """What the figures do not say, a line each."""
    lines, corpus, tested = [], facts.corpus, list_test_sets(facts.training)
    if corpus is None:
        lines.append("The corpus was not at hand when this card was written: hours and normaliser are not known.")
    else:
        hours = corpus.sum_hours("train") * facts.data_share
        lines.append(f"Trained on {hours:.2f} hours of the corpus {corpus.name}, and on nothing else that is recorded.")
    if not tested:
        lines.append("No test set was scored: nothing is known of speech that the model was not chosen by.")
    elif corpus is not None and not any(corpus.sets.get(name, {}).get("domain") == "out" for name in tested):
        lines.append("Not tested on speech of another domain than that of its training.")
    else:
        lines.append(
            f"Tested on {', '.join(tested)} alone; on other languages, noise and microphones nothing is known."
        )
    count = len(facts.repeats)
    if count < 3:
        trained = f"{count} new {'seed' if count == 1 else 'seeds'}"
        lines.append(f"Trained again with {trained}; with fewer than 3 no interval says how much is chance.")
    if facts.language is None:
        lines.append("The language is not stated (`export --language`).")
    return lines


def _describe_use(facts: ModelFacts) -> Iterator[str]:
    yield "## How to use"
    yield "With decred-study, where MODEL is this folder:"
    yield (
        "```console\n$ decred-study transcribe MODEL speech.wav\n$ decred-study evaluate MODEL --corpus CORPUS\n"
        "$ decred-study reproduce MODEL --corpus CORPUS\n```"
    )
    yield '```python\nimport model\n\nrun = model.load_run("MODEL")\nprint(model.decode(run, ["speech.wav"]))\n```'
    yield (
        "`recipe.yaml` trains it again (`decred-study train recipe.yaml`; set `data.corpus` to where the corpus is), "
        "`decoding.yaml` is how it is decoded, `figures.json` has all figures of all seeds, `verdict.json` what the "
        f"study shows, `manifest.json` the versions that it was trained with. Written by decred-study {facts.version}."
    )
    yield "## Licence"
    if facts.license is None:
        yield "No licence was given for the weights (`export --license`)."
    elif facts.license.lower() in LICENSES:
        yield f"The weights are licensed under {facts.license}."
    else:
        yield f"The weights are licensed under {facts.license}, whose text belongs into a file LICENSE here."
