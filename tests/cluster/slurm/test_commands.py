"""Slurm's commands as they are called, with stand-ins for Slurm and ssh that record what they are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.slurm.commands import RunningCluster, cancel, find_cluster, find_jobs, find_state, submit
from cluster.slurm.profile import SlurmProfile
from cluster.slurm.script import address_file, make_script

# Keeps its arguments, its environment's SECRET and its input, and answers.
STAND_IN = """#!/bin/bash
printf '%s\\n' "$@" >"{folder}/{name}.args"
printf '%s' "${{SECRET-none}}" >"{folder}/{name}.secret"
cat >"{folder}/{name}.input"
{answer}
"""
# Runs a command line as ssh does: in a new environment, with its words joined by spaces.
SSH = 'shift; exec env -i PATH="$PATH" HOME={folder} bash -c "$*"'


class Programs:
    """A folder of stand-ins that is searched before all others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, answer: str) -> None:
        program = self.folder / name
        program.write_text(STAND_IN.format(folder=self.folder, name=name, answer=answer))
        program.chmod(0o755)

    def add_ssh(self) -> None:
        program = self.folder / "ssh"
        program.write_text("#!/bin/bash\n" + SSH.format(folder=self.folder) + "\n")
        program.chmod(0o755)
        (self.folder / ".bash_profile").write_text(f'echo "welcome 12"\nPATH="{self.folder}"\n')

    def given(self, name: str, what: str = "args") -> str:
        return (self.folder / f"{name}.{what}").read_text()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Stand-ins, and nothing of a Slurm that may be installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cat", "env", "id", "mkdir"):
        target = next(Path(at, name) for at in ("/bin", "/usr/bin") if Path(at, name).exists())
        (folder / name).symlink_to(target)
    monkeypatch.setenv("PATH", str(folder))
    return Programs(folder)


@pytest.fixture(params=[None, "ssh me@login"], ids=["here", "login"])
def profile(request: pytest.FixtureRequest, tmp_path: Path, programs: Programs) -> SlurmProfile:
    programs.add_ssh()
    storage = tmp_path / "storage"
    storage.mkdir()
    return SlurmProfile(
        kind="slurm", storage=str(storage), cpus_per_node=2, python="/venv/bin/python", login=request.param
    )


def test_sbatch_gets_the_script_as_it_is_and_the_environment_beside_it(
    profile: SlurmProfile, programs: Programs
) -> None:
    programs.add("sbatch", 'echo "4711;cluster1"')
    script = make_script(profile, "demo", ["echo", "\nEND_OF_THE_BATCH_SCRIPT\ntouch injected\n", "$HOME"])
    assert submit(profile, script, {"SECRET": "it's\n$x"}) == "4711"
    assert programs.given("sbatch", "input") == script
    assert programs.given("sbatch", "secret") == "it's\n$x"
    assert programs.given("sbatch") == "--parsable\n"
    assert Path(profile.storage, ".clusters").stat().st_mode & 0o777 == 0o700


def test_a_refusal_keeps_slurms_words(profile: SlurmProfile, programs: Programs) -> None:
    programs.add("sbatch", 'echo "sbatch: error: Batch job submission failed: Invalid qos" >&2; exit 1')
    with pytest.raises(ClusterError, match=r"refuses \(sbatch: error: Batch job submission failed: Invalid qos\)"):
        submit(profile, "#!/bin/bash\n")


def test_a_missing_sbatch_is_one_line(profile: SlurmProfile) -> None:
    where = f"behind '{profile.login}'" if profile.login else "on this machine"
    with pytest.raises(ClusterError, match=rf"^there is no sbatch {where}; set `login` to a command that reaches"):
        submit(profile, "#!/bin/bash\n")


def test_a_storage_that_does_not_exist_is_not_made(profile: SlurmProfile, programs: Programs) -> None:
    programs.add("sbatch", "echo 1")
    Path(profile.storage).rmdir()
    with pytest.raises(ClusterError, match=r"refuses \(mkdir: cannot create directory .*No such file"):
        submit(profile, "#!/bin/bash\n")
    assert not Path(profile.storage).exists()


def test_an_answer_without_a_job_is_shown(profile: SlurmProfile, programs: Programs) -> None:
    programs.add("sbatch", "echo queued")
    with pytest.raises(ClusterError, match=r"queued' instead of a job's id; submit the script by hand"):
        submit(profile.model_copy(update={"login": None}), "#!/bin/bash\n")


@pytest.mark.parametrize(
    ("squeue", "sacct", "state"),
    [
        ("echo RUNNING", "exit 1", "RUNNING"),
        ("exit 1", "echo 'CANCELLED by 1000'", "CANCELLED"),
        ("exit 1", "echo OUT_OF_MEMORY", "OUT_OF_MEMORY"),
        ("exit 1", "exit 1", "UNKNOWN"),
    ],
)
def test_the_state_is_squeues_or_that_of_the_accounts(
    squeue: str, sacct: str, state: str, profile: SlurmProfile, programs: Programs
) -> None:
    programs.add("squeue", squeue)
    programs.add("sacct", sacct)
    assert find_state(profile, "12") == state


def test_a_missing_squeue_is_no_unknown_job(profile: SlurmProfile) -> None:
    with pytest.raises(ClusterError, match="there is no squeue"):
        find_state(profile, "12")


def test_jobs_are_found_by_their_name(profile: SlurmProfile, programs: Programs) -> None:
    programs.add("squeue", "printf '12\\n15\\n'")
    assert find_jobs(profile, "demo") == ["12", "15"]
    assert "--name=demo" in programs.given("squeue").splitlines()


def test_a_job_is_cancelled_by_its_id(profile: SlurmProfile, programs: Programs) -> None:
    programs.add("scancel", "true")
    cancel(profile, "12")
    assert programs.given("scancel") == "12\n"


@pytest.mark.parametrize("job", ["", "12; id", "--user=me", "1\n2"])
def test_only_a_number_is_a_job(job: str, profile: SlurmProfile, programs: Programs) -> None:
    programs.add("scancel", "true")
    with pytest.raises(ClusterError, match="is no id of a Slurm job; give the number that sbatch printed"):
        cancel(profile, job)
    assert not (programs.folder / "scancel.args").exists()


def test_a_clusters_address_is_read_where_it_runs(profile: SlurmProfile) -> None:
    assert find_cluster(profile, "demo") is None
    file = Path(address_file(profile, "demo"))
    file.parent.mkdir()
    file.write_text('{"dashboard": "http://10.0.0.1:2", "head": "10.0.0.1:1", "token_file": "/t", "job": "12"}\n')
    assert find_cluster(profile, "demo") == RunningCluster("http://10.0.0.1:2", "10.0.0.1:1", "/t", "12")


def test_a_login_that_fails_is_told_from_slurms_refusal(profile: SlurmProfile, programs: Programs) -> None:
    (programs.folder / "ssh").write_text("#!/bin/bash\necho 'ssh: connect to host login: no route' >&2; exit 255\n")
    login = profile.model_copy(update={"login": "ssh me@login"})
    with pytest.raises(ClusterError, match=r"'ssh me@login' does not reach the login node \(ssh: connect to host"):
        cancel(login, "12")


def test_a_login_program_that_is_not_here_is_named(profile: SlurmProfile) -> None:
    with pytest.raises(ClusterError, match="there is no program 'mosh' here; change `login`, 'mosh me@login'"):
        cancel(profile.model_copy(update={"login": "mosh me@login"}), "12")
