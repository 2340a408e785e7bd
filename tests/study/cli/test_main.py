"""The command line: help, version, one-line errors, and the commands that no other test runs."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from ledger_events import end_trial, report_epoch
from typer.testing import CliRunner

from model.corpora.corpus import Corpus
from model.errors import UserError
from model.network.recogniser import Recogniser
from model.recipe.files import named_recipe, read_recipe
from model.strict import read_yaml, validate
from model.training.optimiser import make_optimiser
from model.weights import checkpoint, checkpoint_files
from model.weights.published.checkpoint import load_pretrained
from study.cli.main import app, main
from study.config.study_file import StudyFile
from study.ledger.ledger import Ledger
from study.ledger.records import TrialState

STUDY = """
name: probe
corpus: corpus
search:
  ctc_weight: {uniform: [0.1, 0.5]}
  recipe:
    optimiser.learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}
trials: 6
"""
STUDY_COMMANDS = ["run", "status", "dashboard", "track", "export", "decode", "fork", "validate", "compare", "submit"]
CLUSTER_COMMANDS = ["studies", "logs", "attach", "stop", "resume", "preflight", "cluster"]
COMMANDS = [
    *STUDY_COMMANDS,
    "plan",
    "replay",
    *CLUSTER_COMMANDS,
    "import",
    "train",
    "mix",
    "evaluate",
    "schema",
    "prepare",
]
TINY = named_recipe("tiny", "/speech")
GOLDEN = Path(__file__).parents[2] / "golden" / "reguler_two_aux"


def run_command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "study", *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    result = run_command("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)
    assert all(panel in result.stdout for panel in ("Studies", "Clusters", "Single recipes", "Data and files"))
    heavy = "ray", "torch", "mlflow", "optuna", "pydantic"
    program = f"import sys, study.cli.main; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_the_version_is_that_of_the_installed_package() -> None:
    result = run_command("--version")
    assert result.returncode == 0
    assert result.stdout == f"decred-study {version('decred-study')}\n"


def test_the_version_of_an_uploaded_copy_is_reported_as_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.cli.main.DISTRIBUTION", "decred-study-not-there")
    result = CliRunner().invoke(app, ["--version"], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output == "decred-study-not-there, not installed as a package\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_a_wrong_study_file_is_reported_in_one_line_with_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace("trials", "trails"))
    result = run_command("validate", "study.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: study.yaml: unknown key 'trails'; did you mean 'trials'?\n"


def test_a_missing_file_is_reported_in_one_line_with_exit_code_2(tmp_path: Path) -> None:
    result = run_command("run", "nowhere.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: nowhere.yaml: cannot be read")
    assert result.stderr.count("\n") == 1


def test_validate_prints_what_would_run(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(STUDY.replace("corpus: corpus", f"corpus: {corpus.folder}"))
    result = CliRunner().invoke(app, ["validate", "study.yaml"], catch_exceptions=False)
    assert "8 trials (2 baselines first)" in result.output
    assert "searches ctc_weight, optimiser.learning_rate" in result.output
    assert not Path("studies").exists()


def test_validate_checks_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    result = run_command("validate", "study.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: corpus {tmp_path / 'corpus'}: no such folder")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["run", "x.yaml", "--trials", "-1"], "error: Invalid value for '--trials'"),
        (["run", "x.yaml", "--trails", "3"], "error: No such option: --trails (Possible options: --trials)"),
        (["runn"], "error: No such command 'runn'. Did you mean 'run'?"),
        (["run"], "error: Missing argument 'STUDY'"),
    ],
)
def test_a_mistyped_command_is_reported_in_one_line_with_exit_code_2(
    typed: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["decred-study", *typed])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(expected)
    assert printed.count("\n") == 1


def test_a_study_on_a_file_system_that_is_gone_is_one_line_and_an_error_of_the_program_itself_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raised_there: list[OSError] = [OSError(errno.ESTALE, "Stale file handle", "/mnt/s"), FileExistsError(17, "there")]

    def fail(folder: Path) -> Ledger:
        raise raised_there.pop(0)

    (tmp_path / "study.yaml").write_text("")
    monkeypatch.setattr(Ledger, "open", fail)
    monkeypatch.setattr(sys, "argv", ["decred-study", "status", str(tmp_path)])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    assert capsys.readouterr().err == (
        "error: /mnt/s: cannot be used (Stale file handle); see that it answers and is yours to read and write, then "
        "give the command again\n"
    )
    with pytest.raises(FileExistsError):
        main()


def test_a_group_of_commands_alone_prints_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["decred-study", "prepare"])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    printed = capsys.readouterr()
    assert "Usage: decred-study prepare" in printed.out + printed.err


def test_status_of_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    result = run_command("status", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 2
    assert "holds no study" in result.stderr


def test_the_schema_is_written_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["schema", "-o", "study.schema.json"], catch_exceptions=False)
    assert "search" in json.loads(Path("study.schema.json").read_text())["properties"]


def test_a_published_checkpoint_is_imported_as_a_base_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: Corpus
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corpus").symlink_to(corpus.folder)
    result = CliRunner().invoke(app, ["import", str(GOLDEN), "--out", "recipes/base.yaml"], catch_exceptions=False)
    assert result.output.startswith(f"recipes/base.yaml starts from {GOLDEN}; ")
    Path("study.yaml").write_text(STUDY + "recipe: {base: recipes/base.yaml}\n")
    result = CliRunner().invoke(app, ["validate", "study.yaml"], catch_exceptions=False)
    assert "8 trials (2 baselines first)" in result.output


def test_a_trial_and_a_single_run_are_exported_in_the_published_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["import", str(GOLDEN), "--out", "base.yaml"], catch_exceptions=False)
    Path("study.yaml").write_text(STUDY)
    recipe = read_recipe(Path("base.yaml"))
    ledger = Ledger.create_or_open(
        Path("studies/probe"), validate(StudyFile, read_yaml(Path("study.yaml")), ""), recipe, {}
    )
    ledger.start_trial(0, recipe, {}, None)
    report_epoch(ledger, 0, 1, {"dev/wer": 30.0})
    end_trial(ledger, 0, TrialState.COMPLETE)
    trained = Recogniser(recipe)
    state = checkpoint_files.initial_position(recipe)
    checkpoint.save_checkpoint(
        ledger.trial_folder(0) / "checkpoints", trained, make_optimiser(trained, recipe.optimiser), state
    )
    for source, out in (("studies/probe", "best-model"), ("studies/probe/trials/0000", "elsewhere")):
        arguments = ["export", source, "--format", "published", *(["-o", out] if out != "best-model" else [])]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.output.endswith(f"recipe {recipe.hash}, written to {out} in the published layout\n")
        loaded = load_pretrained(out).state_dict()
        assert all(value.equal(loaded[name]) for name, value in trained.state_dict().items())


def test_the_demo_can_be_made_small(tmp_path: Path) -> None:
    sizes = ("--train-utterances", "24", "--dev-utterances", "4", "--test-utterances", "4")
    result = CliRunner().invoke(
        app, ["prepare", "demo", "--out", str(tmp_path / "demo"), *sizes], catch_exceptions=False
    )
    assert (
        "train 24, dev 4, dev-ood-text 4, dev-ood-voice 4, test-in 4, test-ood-text 4, test-ood-voice 4 utterances"
        in result.output.replace("\n", " ")
    )


def test_track_counts_what_is_not_up_to_date_sends_it_and_fills_an_empty_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    ledger = Ledger.create_or_open(
        tmp_path / "studies" / "probe", validate(StudyFile, read_yaml(Path("study.yaml")), ""), TINY, {"id": "one"}
    )
    ledger.start_trial(0, TINY, {"ctc_weight": 0.3}, "ed")
    uri = f"sqlite:///{ledger.folder}/mlflow.db"
    outdated = f"2 runs are not up to date in MLflow at {uri}; send them with: decred-study track study.yaml --flush\n"

    def track(*options: str) -> str:
        return CliRunner().invoke(app, ["track", "study.yaml", *options], catch_exceptions=False).output

    assert track() == outdated
    assert track("--flush") == f"2 runs sent to MLflow at {uri}\n"
    assert track() == f"all runs are up to date in MLflow at {uri}\n"
    (ledger.folder / "mlflow.db").unlink()
    assert track("--rebuild") == f"2 runs sent to MLflow at {uri}\n"
    # Another store in the study file has nothing yet.
    (tmp_path / "study.yaml").write_text(STUDY + f"tracking: sqlite:///{tmp_path}/other.db\n")
    assert track().startswith(f"2 runs are not up to date in MLflow at sqlite:///{tmp_path}/other.db")
    with pytest.raises(UserError, match="track was given --flush and --rebuild, but takes one of them"):
        track("--flush", "--rebuild")


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_a_command_ends_does_not_change_its_exit_code(kind: signal.Signals) -> None:
    program = f"""
import atexit, os, sys
from study.cli.main import main
atexit.register(os.kill, os.getpid(), {kind:d})
sys.argv = ["decred-study", "status", "nowhere"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
