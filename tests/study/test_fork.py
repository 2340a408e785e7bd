"""A new study starts with what fits of another, and says what does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from model.data.corpus import Corpus
from model.errors import UserError
from model.prepare import prepare
from model.recipe import Recipe
from model.recipe_files import read_recipe, with_values
from model.strict import read_yaml
from study.baselines import baseline
from study.cli import app
from study.fork import fork_study
from study.lease import held
from study.ledger import Ledger
from study.manifest import manifest
from study.optuna_adapter import Proposer
from study.results import best, export_recipe
from study.space import Space
from study.study_file import base_recipe, read_study, study_folder
from study.trial_record import State

ROOT = Path(__file__).parents[2]
SMALL = {"tokenizer.vocabulary": 40, "training.epochs": 3}
SEARCH = {"ctc_weight": {"uniform": [0.1, 0.6]}}


def write(name: str, corpus: Corpus, **changes: Any) -> Path:
    path = Path(f"{name}.yaml")
    content = {"name": name, "corpus": str(corpus.folder), "recipe": {"set": SMALL}, "search": SEARCH, "trials": 8}
    path.write_text(yaml.safe_dump(content | changes))
    return path


@pytest.fixture
def old(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Both baselines, one of them pruned, and two sampled trials."""
    monkeypatch.chdir(tmp_path)
    study = read_study(write("old", corpus))
    base = prepare(base_recipe(study))
    ledger = Ledger.create_or_open(study_folder(study), study, base, manifest(study, base))
    ledger.append("study_started")
    add(ledger, 0, baseline("ed", base), State.COMPLETE, 30.0, "ed")
    add(ledger, 1, baseline("decred-paper", base), State.PRUNED, 50.0, "decred-paper")
    add(ledger, 2, with_values(base, {"loss.ctc_weight": 0.2}), State.COMPLETE, 20.0)
    add(ledger, 3, with_values(base, {"loss.ctc_weight": 0.5}), State.COMPLETE, 25.0)
    return ledger


def add(
    ledger: Ledger,
    number: int,
    recipe: Recipe,
    state: State | None,
    wer: float,
    named: str | None = None,
    reason: str | None = None,
) -> None:
    ledger.trial_started(number, recipe, Space(ledger.study.search, ledger.base_recipe).values(recipe), named)
    for epoch in (1, 2) if state is State.PRUNED else (1, 2, 3):
        ledger.trial_epoch(number, epoch, {"dev/wer": wer + 3 - epoch, "train/loss": 1.0})
    if state is not None:
        ledger.trial_ended(number, state, reason, {"test/t/wer": wer + 9} if state is State.COMPLETE else {})
    checkpoint = ledger.trial_folder(number) / "checkpoints" / "epoch-0003"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (ledger.trial_folder(number) / "hypotheses").mkdir()
    (ledger.trial_folder(number) / "hypotheses" / "dev.jsonl").write_text("{}\n")


def forked(old: Ledger, path: Path, **more: Any) -> tuple[Ledger, list[str]]:
    said: list[str] = []
    return Ledger.open(fork_study(old, path, said.append, **more)), said


def test_every_usable_trial_of_the_same_space_goes_over_whole(old: Ledger, corpus: Corpus) -> None:
    new, said = forked(old, write("new", corpus, trials=10))
    before, after = old.trials(), new.trials()
    assert list(after) == [0, 1, 2, 3]
    for number in after:
        was, now = before[number], after[number]
        assert now.source == f"old/{number}"
        same = ("state", "reason", "baseline", "values", "recipe_hash", "epochs", "metrics", "started", "ended")
        assert [getattr(now, name) for name in same] == [getattr(was, name) for name in same]
    assert said == [
        f"{new.folder} starts with 4 of 4 trials of 'old', 8 are to run; go on with: decred-study run new.yaml"
    ]
    assert new.manifest["forked_from"] == {"study": "old", "id": old.manifest["id"]}
    assert not list(new.folder.parent.glob(".*"))


def test_the_best_trial_can_be_exported_and_its_files_take_no_room(old: Ledger, corpus: Corpus) -> None:
    new, _ = forked(old, write("new", corpus))
    winner = best(new.trials().values(), new.study.objective)
    assert winner is not None
    assert winner.number == 2
    assert export_recipe(new)[0].loss.ctc_weight == 0.2
    for name in ("checkpoints/epoch-0003/model.safetensors", "hypotheses/dev.jsonl"):
        files = [ledger.trial_folder(2) / name for ledger in (old, new)]
        assert os.path.samefile(*files)
    assert not os.path.samefile(*(ledger.trial_folder(2) / "recipe.yaml" for ledger in (old, new)))


def test_where_nothing_can_be_linked_files_are_copied(
    old: Ledger, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    new, _ = forked(old, write("new", corpus))
    assert (new.trial_folder(2) / "checkpoints" / "epoch-0003" / "model.safetensors").read_bytes() == b"weights"


def test_the_new_study_goes_on_from_what_it_took_over(old: Ledger, corpus: Corpus) -> None:
    new, _ = forked(old, write("new", corpus, trials=3, baselines=["ed", "decred-paper", "interctc"]))
    proposer = Proposer(new.study, new.base_recipe, f"sqlite:///{new.folder}/optuna.db", new.manifest["id"])
    first, second = proposer.propose(), proposer.propose()
    assert first is not None
    assert second is not None
    assert (first.number, first.baseline) == (4, "interctc"), "the other baselines were tried, and are not again"
    assert (second.number, second.baseline) == (5, None)
    assert proposer.propose() is None, "what came counts against the budget"
    # The runner opens it as its own.
    again = Ledger.create_or_open(new.folder, new.study, new.base_recipe, manifest(new.study, new.base_recipe))
    assert list(again.trials()) == [0, 1, 2, 3]


def test_what_does_not_fit_is_left_with_its_reason(old: Ledger, corpus: Corpus) -> None:
    base = old.base_recipe
    add(old, 4, with_values(base, {"loss.ctc_weight": 0.3}), State.FAILED, 10.0, reason="OutOfMemoryError: no room")
    old.trial_infeasible(5, {"ctc_weight": 0.4}, "it makes no recipe")
    add(old, 6, with_values(base, {"loss.ctc_weight": 0.4}), None, 10.0)
    add(old, 7, with_values(base, {"loss.ctc_weight": 0.45}), State.COMPLETE, 10.0)
    (old.trial_folder(7) / "recipe.yaml").write_text((old.trial_folder(3) / "recipe.yaml").read_text())
    add(old, 8, with_values(base, {"data.fingerprint": "other"}), State.COMPLETE, 10.0)
    new, said = forked(old, write("new", corpus, search={"ctc_weight": {"uniform": [0.3, 0.6]}}))
    assert [record.source for record in new.trials().values()] == ["old/0", "old/1", "old/3"]
    assert read_recipe(new.trial_folder(2) / "recipe.yaml").loss.ctc_weight == 0.5
    reasons = dict(line.split(" is left out: ") for line in said[:-1])
    assert list(reasons) == [f"trial {number:04d}" for number in (2, 4, 5, 6, 7, 8)]
    assert "ctc_weight" in reasons["trial 0002"]
    assert reasons["trial 0004"] == "it failed: OutOfMemoryError: no room"
    assert reasons["trial 0005"] == "it is infeasible: it makes no recipe"
    assert reasons["trial 0006"] == "it has not ended, it is running"
    assert reasons["trial 0007"].endswith("the file was changed after the trial: restore it")
    assert reasons["trial 0008"] == f"it was tried on another corpus (content other, here {corpus.fingerprint})"
    assert "starts with 3 of 9 trials of 'old'" in said[-1]


def test_values_are_named_as_the_new_study_searches_them(old: Ledger, corpus: Corpus) -> None:
    search = SEARCH | {"recipe": {"optimiser.learning_rate": {"log_uniform": [1e-4, 1e-2]}}}
    new, _ = forked(old, write("new", corpus, search=search))
    assert new.trials()[2].values == {"ctc_weight": 0.2, "optimiser.learning_rate": 0.003}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": {"metric": "dev/cer"}}, "it has no dev/cer"),
        ({"recipe": {"set": SMALL | {"training.epochs": 9}}}, "training.epochs"),
    ],
)
def test_where_nothing_fits_no_study_is_made(old: Ledger, corpus: Corpus, changes: dict[str, Any], reason: str) -> None:
    said: list[str] = []
    with pytest.raises(
        UserError, match=r"no trial of study 'old' fits 'new', so nothing was made; start it without them: decred-study"
    ):
        fork_study(old, write("new", corpus, **changes), said.append)
    assert len(said) == 4
    assert all(reason in line for line in said[2:]), "baselines may differ in more"
    assert [path.name for path in Path("studies").iterdir()] == ["old"]


def test_trials_with_another_tokenizer_are_left(old: Ledger, corpus: Corpus) -> None:
    old.manifest["hashes"]["tokenizer"] = "other"
    said: list[str] = []
    with pytest.raises(UserError, match="no trial of study 'old' fits"):
        fork_study(old, write("new", corpus), said.append)
    assert "trial 0002 is left out: it was tried with another tokenizer (other, here " in said[2]


def test_a_study_that_is_there_is_not_touched(old: Ledger, corpus: Corpus) -> None:
    before = (old.folder / "events.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"studies/old holds a study already; give the new study another name in old"):
        fork_study(old, Path("old.yaml"), print)
    assert (old.folder / "events.jsonl").read_bytes() == before
    new = write("new", corpus)
    Path("studies/new").mkdir()
    Path("studies/new/notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"studies/new holds other files; give the new study another name"):
        fork_study(old, new, print)


def test_a_folder_that_a_refused_run_left_is_free(old: Ledger, corpus: Corpus) -> None:
    with held(Path("studies/new")):
        pass
    new, _ = forked(old, write("new", corpus))
    assert len(new.trials()) == 4


class Fails:
    """Adopts two trials, then the process dies, or the disk is full."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end, self.taken, self.url = end, 0, ""

    def open(self, study: Any, base: Any, url: str, identity: Any) -> Fails:
        self.url, self.taken = url, 0
        return self

    def adopt(self, recipe: Any, record: Any) -> int | str:
        if self.taken == 2 and self.url != "sqlite://":
            self.end()
        self.taken += 1
        return self.taken - 1

    def remaining(self) -> int:
        return 0


def test_a_full_disk_in_the_middle_leaves_nothing(old: Ledger, corpus: Corpus) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"studies/new cannot be written \(No space left on device\)"):
        fork_study(old, write("new", corpus), print, proposer=Fails(full).open)
    assert [path.name for path in Path("studies").iterdir()] == ["old"]


def test_a_fork_that_was_killed_leaves_no_study_and_the_next_one_works(old: Ledger, corpus: Corpus) -> None:
    path = write("new", corpus)
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from test_fork import Fails; from study.fork import fork_study; from study.ledger import Ledger\n"
        "die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "fork_study(Ledger.open(Path('studies/old')), Path('new.yaml'), print, proposer=Fails(die).open)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(each.name for each in Path("studies").iterdir()) == [".new.fork", "old"]
    new, _ = forked(old, path)
    assert len(new.trials()) == 4
    assert [event["kind"] for event in new.events()] == ["trial_imported"] * 4
    assert sorted(each.name for each in Path("studies").iterdir()) == ["new", "old"]


def test_two_forks_under_one_name_do_not_meet(old: Ledger, corpus: Corpus) -> None:
    path = write("new", corpus)
    with held(Path("studies/.new.fork")):
        (Path("studies/.new.fork") / "theirs").write_text("")
        with pytest.raises(UserError, match=rf"is being run by process {os.getpid()}"):
            fork_study(old, path, print)
        assert Path("studies/.new.fork/theirs").exists()


def test_a_database_that_knows_other_trials_of_that_name_is_refused(old: Ledger, corpus: Corpus) -> None:
    class Elsewhere(Fails):
        def adopt(self, recipe: Any, record: Any) -> int | str:
            return int(super().adopt(recipe, record)) + (0 if self.url == "sqlite://" else 7)

    with pytest.raises(UserError, match=r"Optuna's database holds trials of a study 'new' already; give the new study"):
        fork_study(old, write("new", corpus), print, proposer=Elsewhere(lambda: None).open)
    assert not Path("studies/new").exists()


def test_fork_is_a_command(old: Ledger, corpus: Corpus) -> None:
    write("new", corpus)
    said = CliRunner().invoke(app, ["fork", "old.yaml", "new.yaml"], catch_exceptions=False)
    assert said.exit_code == 0
    assert "starts with 4 of 4 trials of 'old'" in said.output.replace("\n", " ")
    assert read_yaml(Path("studies/new/study.yaml"))["name"] == "new"
