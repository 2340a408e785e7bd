"""A new study starts with the trials of another one that fit, and prints why the others do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model.corpora.corpus import Corpus
from model.errors import UserError
from model.recipe.files import read_recipe, with_values
from model.strict import read_yaml
from model.weights.found_decoding import FoundDecoding, save_found
from study.cli.main import app
from study.execution.decode import search_event
from study.execution.fork import fork_study
from study.ledger.best import export_recipe, find_best
from study.ledger.events import TrialEnded
from study.ledger.ledger import Ledger
from study.ledger.manifest import make_manifest
from study.ledger.records import TrialState
from study.search.proposal import Proposal
from study.search.proposer import Proposer

WriteStudy = Callable[..., Path]
AddTrial = Callable[..., None]
SEARCH = {"ctc_weight": {"uniform": [0.1, 0.6]}}


def fork(old: Ledger, path: Path, **more: Any) -> tuple[Ledger, list[str]]:
    printed: list[str] = []
    return Ledger.open(fork_study(old, path, printed.append, **more)), printed


def test_every_usable_trial_of_the_same_space_is_imported_with_all_its_fields(
    old: Ledger, write_study: WriteStudy
) -> None:
    new, printed = fork(old, write_study("new", trials=10))
    before, after = old.trials, new.trials
    assert list(after) == [0, 1, 2, 3]
    for number in after:
        original, imported = before[number], after[number]
        assert imported.source == f"old/{number}"
        same = (
            "state",
            "reason",
            "baseline",
            "recipe_class",
            "values",
            "point",
            "recipe_hash",
            "metrics",
            "started",
            "ended",
        )
        assert [getattr(imported, name) for name in same] == [getattr(original, name) for name in same]
        reports = [
            [(report.epoch, report.time, report.metrics) for report in record.epochs] for record in (original, imported)
        ]
        assert reports[0] == reports[1]
    assert printed == [
        f"{new.folder} starts with 4 of 4 trials of 'old', 8 are to run; continue with: decred-study run new.yaml"
    ]
    assert new.manifest["forked_from"] == {"study": "old", "id": old.manifest["id"]}
    assert not list(new.folder.parent.glob(".*"))


def test_what_was_found_for_a_trial_comes_with_it(old: Ledger, write_study: WriteStudy) -> None:
    tried = {"stage": "start", "decoding": {"beam": 4}, "words": {"dev": [1, 0, 0, 9]}, "seconds": 1.0}
    stages = [{"stage": "start", "decoding": {"beam": 4}, "metrics": {"dev/wer": 11.1}}]
    found = FoundDecoding(search={}, decoding={"beam": 4}, tried=[tried], stages=stages, seconds=1.5, share=0.1)
    save_found(old.trial_folder(0), found)
    old.append(search_event(0, found))
    new, _ = fork(Ledger.open(old.folder), write_study("new", trials=10))
    assert new.trials[0].decoding_stages == tuple(stages)
    assert new.trials[0].found_decoding == {"beam": 4}
    assert new.trials[1].found_decoding is None


def test_trainings_that_confirm_a_finalist_stay_with_their_study(old: Ledger, write_study: WriteStudy) -> None:
    recipe = with_values(old.read_recipe(old.trials[0]), {"training.seed": 1000})
    old.start_trial(9, recipe, {"training.seed": 1000}, None, {}, None, confirms=0)
    old.append(TrialEnded(number=9, state=TrialState.COMPLETE, metrics={"dev/wer": 1.0}))
    new, printed = fork(Ledger.open(old.folder), write_study("new", trials=10))
    assert "old/9" not in [record.source for record in new.trials.values()]
    assert any("it confirms trial 0 there, and this study confirms its own finalists" in line for line in printed)


def test_the_best_trial_can_be_exported_and_its_files_take_no_disk_space(old: Ledger, write_study: WriteStudy) -> None:
    new, _ = fork(old, write_study("new"))
    best = find_best(new.trials.values(), new.study.objective)
    assert best is not None
    assert best.number == 2
    assert export_recipe(new)[0].loss.ctc_weight == 0.2
    for name in ("checkpoints/epoch-0003/model.safetensors", "hypotheses/dev.jsonl"):
        files = [ledger.trial_folder(2) / name for ledger in (old, new)]
        assert os.path.samefile(*files)
    assert not os.path.samefile(*(ledger.trial_folder(2) / "recipe.yaml" for ledger in (old, new)))


def test_files_that_cannot_be_linked_are_copied(
    old: Ledger, write_study: WriteStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    new, _ = fork(old, write_study("new"))
    assert (new.trial_folder(2) / "checkpoints" / "epoch-0003" / "model.safetensors").read_bytes() == b"as it was left"


def test_the_new_study_continues_after_the_imported_trials(old: Ledger, write_study: WriteStudy) -> None:
    new, _ = fork(old, write_study("new", trials=3, baselines=["ed", "decred-paper", "interctc"]))
    proposer = Proposer(new.study, new.base_recipe)
    for number, name in ((4, "interctc"), (5, None)):
        proposal = proposer.propose(new.trials)
        assert isinstance(proposal, Proposal)
        assert (proposal.number, proposal.baseline) == (number, name), "the other baselines were tried already"
        new.start_trial(number, proposal.recipe, proposal.values, name, proposal.point)
    assert proposer.propose(new.trials) is None, "imported trials count towards the budget"
    # The runner can open it.
    reopened = Ledger.create_or_open(new.folder, new.study, new.base_recipe, make_manifest(new.study, new.base_recipe))
    assert list(reopened.trials) == [0, 1, 2, 3, 4, 5]


def test_a_trial_that_does_not_fit_is_left_out_with_its_reason(
    old: Ledger, write_study: WriteStudy, add_trial: AddTrial, corpus: Corpus
) -> None:
    base = old.base_recipe
    add_trial(
        old, 4, with_values(base, {"loss.ctc_weight": 0.3}), TrialState.FAILED, 10.0, reason="OutOfMemoryError: full"
    )
    infeasible = TrialEnded(number=5, state=TrialState.INFEASIBLE, reason="it makes no recipe", values={"a": 1})
    old.append(infeasible)
    add_trial(old, 6, with_values(base, {"loss.ctc_weight": 0.4}), None, 10.0)
    add_trial(old, 7, with_values(base, {"loss.ctc_weight": 0.45}), TrialState.COMPLETE, 10.0)
    (old.trial_folder(7) / "recipe.yaml").write_text((old.trial_folder(3) / "recipe.yaml").read_text())
    add_trial(old, 8, with_values(base, {"data.fingerprint": "other"}), TrialState.COMPLETE, 10.0)
    new, printed = fork(old, write_study("new", search={"ctc_weight": {"uniform": [0.3, 0.6]}}))
    assert [record.source for record in new.trials.values()] == ["old/0", "old/1", "old/3"]
    assert read_recipe(new.trial_folder(2) / "recipe.yaml").loss.ctc_weight == 0.5
    reasons = dict(line.split(" is left out: ") for line in printed[:-1])
    assert list(reasons) == [f"trial {number:04d}" for number in (2, 4, 5, 6, 7, 8)]
    assert "ctc_weight" in reasons["trial 0002"]
    assert reasons["trial 0004"] == "it failed: OutOfMemoryError: full"
    assert reasons["trial 0005"] == "it is infeasible: it makes no recipe"
    assert reasons["trial 0006"] == "it has not ended, it is running"
    assert reasons["trial 0007"].endswith("the file was changed after the trial: restore it")
    assert reasons["trial 0008"] == f"it was tried on another corpus (content other, here {corpus.fingerprint})"
    assert "starts with 3 of 9 trials of 'old'" in printed[-1]


def test_values_are_those_of_the_quantities_that_the_new_study_searches(old: Ledger, write_study: WriteStudy) -> None:
    search = SEARCH | {"recipe": {"optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]}}}
    new, _ = fork(old, write_study("new", search=search))
    assert new.trials[2].values == {"ctc_weight": 0.2, "optimiser.learning_rate": 0.0015}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": {"metric": "dev/cer"}}, "it has no dev/cer"),
        ({"recipe": {"set": {"tokenizer.vocabulary": 40, "training.epochs": 9}}}, "training.epochs"),
    ],
)
def test_no_study_is_made_where_no_trial_fits(
    old: Ledger, write_study: WriteStudy, changes: dict[str, Any], reason: str
) -> None:
    printed: list[str] = []
    with pytest.raises(
        UserError, match=r"no trial of study 'old' fits 'new', so nothing was made; start it without them: decred-study"
    ):
        fork_study(old, write_study("new", **changes), printed.append)
    assert len(printed) == 4
    assert all(reason in line for line in printed[2:]), "the reasons of baselines may name other differences"
    assert [path.name for path in Path("studies").iterdir()] == ["old"]


def test_trials_with_another_tokenizer_are_left_out(old: Ledger, write_study: WriteStudy) -> None:
    old.manifest["hashes"]["tokenizer"] = "other"
    printed: list[str] = []
    with pytest.raises(UserError, match="no trial of study 'old' fits"):
        fork_study(old, write_study("new"), printed.append)
    assert "trial 0002 is left out: it was tried with another tokenizer (other, here " in printed[2]


def test_fork_is_a_command(old: Ledger, write_study: WriteStudy) -> None:
    write_study("new")
    result = CliRunner().invoke(app, ["fork", "old.yaml", "new.yaml"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "starts with 4 of 4 trials of 'old'" in result.output.replace("\n", " ")
    assert read_yaml(Path("studies/new/study.yaml"))["name"] == "new"
