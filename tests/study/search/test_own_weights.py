"""A trial that starts from another one's weights finds them, wherever the study's folder was when this was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.recipe.files import named_recipe, with_values
from model.recipe.recipe import Recipe
from study.config.study_file import StudyFile
from study.ledger.events import ControlGiven
from study.ledger.records import TrialRecord
from study.ledger.trials import Trials
from study.search.own_weights import find_own_trial
from study.search.proposal import Proposal
from study.search.proposer import Proposer

TINY = named_recipe("tiny", "/speech")
WEIGHTS, OTHERS = "ab" * 8, "cd" * 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study's folder, with trials 3 and 4."""
    for number in (3, 4):
        (tmp_path / "s" / "trials" / f"{number:04d}").mkdir(parents=True)
    return tmp_path / "s"


def make_proposer(folder: Path, base: Recipe = TINY) -> Proposer:
    content = {"name": "s", "corpus": "/speech", "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
    return Proposer(StudyFile.model_validate(content | {"storage": str(folder.parent)}), base)


def start_from(path: str | Path, fingerprint: str | None = WEIGHTS) -> Recipe:
    return with_values(TINY, {"init_from": str(path), "init_fingerprint": fingerprint})


def propose(proposer: Proposer, recipe: Recipe) -> Proposal:
    """The proposal of a recipe that a person has enqueued."""
    order = ControlGiven(who="ada", command="enqueue", value=recipe.model_dump_json(), id="one")
    proposal = proposer.propose(Trials([order]))
    assert isinstance(proposal, Proposal)
    return proposal


def test_what_was_enqueued_where_the_storage_is_mounted_elsewhere_starts_from_the_trial_here(folder: Path) -> None:
    proposer, recipe = make_proposer(folder), start_from("/Volumes/shared/s/trials/0003")
    proposed = propose(proposer, recipe)
    assert proposed.recipe.init_from == str(folder / "trials" / "0003")
    assert proposed.recipe.hash == recipe.hash
    again = propose(proposer, start_from(folder / "trials" / "0003"))
    assert (again.recipe, again.point, again.values) == (proposed.recipe, proposed.point, proposed.values)
    restored = proposer.restore(TrialRecord(5), recipe)
    assert restored.recipe == proposed.recipe, "a trial that continues, too"


@pytest.mark.parametrize(
    "path",
    [
        "/Volumes/shared/s/trials/0007",  # the study has no such trial
        "/Volumes/shared/t/trials/0003",  # of another study
        "/Volumes/shared/s/0003",
        "/Volumes/shared/s/trials/best",
    ],
)
def test_a_path_that_is_no_trials_of_this_study_stays_as_it_was_given(path: str, folder: Path) -> None:
    assert propose(make_proposer(folder), start_from(path)).recipe.init_from == path


def test_a_path_that_is_there_stays_also_if_it_is_of_another_study_of_the_same_name(
    folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "earlier" / "s" / "trials" / "0003"
    other.mkdir(parents=True)
    assert propose(make_proposer(folder), start_from(other)).recipe.init_from == str(other)


def test_the_base_recipes_weights_are_no_trial_of_the_study(folder: Path) -> None:
    gone = "/earlier/s/trials/0003"
    base = start_from(gone, OTHERS)
    assert propose(make_proposer(folder, base), base).recipe.init_from == gone
    assert make_proposer(folder, base).restore(TrialRecord(5), base).recipe.init_from == gone


def test_the_number_of_a_trial_is_found_by_its_path_here_by_a_link_and_by_that_of_another_machine(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder / "trials" / "0003")
    paths = [folder / "trials" / "0004", folder / "trials" / "0004" / "chosen", tmp_path / "link", "/x/s/trials/0003"]
    assert [find_own_trial(str(path), folder) for path in paths] == [4, 4, 3, 3]
    others = [folder, folder / "trials", folder / "trials" / "best", "/x/t/trials/0003", "/x/s/trials/0003/x", "0003"]
    assert [find_own_trial(str(path), folder) for path in others] == [None] * len(others)
