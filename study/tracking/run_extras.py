"""What a run has beside params, metrics and tags of its own: the corpus among its inputs, and a link to its study."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from study.tracking.run_content import Corpus

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_CONTEXT = "mlflow.data.context"  # the tag that says what a dataset is for


def make_dataset_input(corpus: Corpus) -> DatasetInput:
    """The corpus as MLflow lists the inputs of a run: its name, fingerprint and place, and none of its content."""
    # The entities that its class `MetaDataset` makes, whose module imports for seconds.
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(corpus.name, corpus.digest, source_type="local", source=json.dumps({"uri": corpus.folder}))
    return DatasetInput(dataset, [InputTag(_CONTEXT, "training and evaluation")])


def make_trial_note(values: Mapping[str, str], study: str, experiment: str, parent: str) -> str:
    """The note of a trial's run, in Markdown: what was tried, then a link to the study's own, which its page lacks."""
    tried = ", ".join(f"{name.rpartition('.')[2].replace('_', ' ')} {value}" for name, value in values.items())
    link = f"a trial of the study [{study}](#/experiments/{experiment}/runs/{parent})"
    return f"{tried}\n\n{link}" if tried else link
