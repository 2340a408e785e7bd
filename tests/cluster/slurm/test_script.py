"""The batch script as text: bash and shellcheck accept it, and no value of a profile becomes a command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.errors import ClusterError
from cluster.slurm.profile import SlurmProfile
from cluster.slurm.script import address_file, log_file, make_script

LEAST = {"kind": "slurm", "storage": "/lustre/me/studies", "cpus_per_node": 8, "python": "/home/me/venv/bin/python"}
FULL = LEAST | {
    "nodes": 3,
    "gpus_per_node": 4,
    "memory": "480G",
    "partition": "gpu,gpu-long",
    "account": "speech-lab",
    "qos": "high",
    "time": "2-12:00:00",
    "constraint": "[a100|h100]&ib",
    "options": ["--exclude=node[7-9]", "--mail-type=END,FAIL", "--exclusive"],
    "exclude": ["node3", "gpu-12.cluster"],
    "setup": ["module load cuda/12.4", 'eval "$(conda shell.bash hook)"', "conda activate decred"],
    "temp": "/local/scratch",
    "interface": "ib0",
    "requeue": False,
    "wait_seconds": 77,
    "env": {"NCCL_DEBUG": "WARN", "NOTE": 'it\'s 50 % "done" $HOME `id`'},
}
# Fields that others use: how the cluster is reached from elsewhere, and what is submitted to it.
NOT_IN_SCRIPT = {
    "kind",
    "mounted",
    "paths",
    "dashboard",
    "tunnel",
    "token_file",
    "tracking",
    "pass_env",
    "login",
}
BODY = "# From here on the script is the same for all profiles."
COMMAND = ["/home/me/venv/bin/python", "-m", "study", "run", "my study.yaml", "--address", "{head}"]


def make(fields: dict[str, object], command: list[str] | None = COMMAND, name: str = "demo") -> str:
    return make_script(SlurmProfile.model_validate(fields), name, command)


@pytest.mark.parametrize("command", [COMMAND, None], ids=["command", "held"])
@pytest.mark.parametrize("fields", [LEAST, FULL], ids=["least", "full"])
@pytest.mark.parametrize("checker", [["bash", "-n"], ["shellcheck"]], ids=["bash", "shellcheck"])
def test_the_script_is_accepted_without_a_remark(
    checker: list[str], fields: dict[str, object], command: list[str] | None, tmp_path: Path
) -> None:
    if shutil.which(checker[0]) is None:
        pytest.skip(f"NOT TESTED: {checker[0]} is not installed")
    script = tmp_path / "job.sh"
    script.write_text(make(fields, command))
    done = subprocess.run([*checker, str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_shellcheck_sees_an_error_in_the_script(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("NOT TESTED: shellcheck is not installed")
    script = tmp_path / "job.sh"
    script.write_text(make(LEAST).replace('rm -rf -- "$folder"', "rm -rf -- $folder"))
    assert "SC2086" in subprocess.run(["shellcheck", str(script)], capture_output=True, text=True).stdout


def test_every_field_of_the_profile_is_in_the_script() -> None:
    lines = make(FULL).partition(BODY)[0].splitlines()
    expected = {
        "nodes": ["#SBATCH --nodes=3"],
        "cpus_per_node": ["#SBATCH --cpus-per-task=8", "cpus=8"],
        "gpus_per_node": ["#SBATCH --gpus-per-node=4", "gpus=4"],
        "memory": ["#SBATCH --mem=480G"],
        "partition": ["#SBATCH --partition=gpu,gpu-long"],
        "account": ["#SBATCH --account=speech-lab"],
        "qos": ["#SBATCH --qos=high"],
        "time": ["#SBATCH --time=2-12:00:00"],
        "constraint": ["#SBATCH --constraint=[a100|h100]&ib"],
        "options": ["#SBATCH --mail-type=END,FAIL", "#SBATCH --exclusive"],
        "exclude": ["#SBATCH --exclude=node[7-9],node3,gpu-12.cluster"],  # with those of `options`
        "setup": list(FULL["setup"]),  # type: ignore[call-overload]
        "python": ["python=/home/me/venv/bin/python"],
        "temp": ["temp=/local/scratch"],
        "interface": ["interface=ib0"],
        "requeue": ["#SBATCH --no-requeue", "requeue=no"],
        "wait_seconds": ["wait_seconds=77"],
        "storage": ["#SBATCH --output=/lustre/me/studies/.clusters/demo-%j.log", "storage=/lustre/me/studies"],
        "env": ["export NCCL_DEBUG=WARN"],
    }
    assert expected.keys() | NOT_IN_SCRIPT == SlurmProfile.model_fields.keys()
    for field, wanted in expected.items():
        assert set(wanted) <= set(lines), field


def test_every_field_has_a_description() -> None:
    assert [name for name, field in SlurmProfile.model_fields.items() if not field.description] == ["kind"]


def test_a_requeued_job_appends_to_its_log_and_is_warned_before_its_time_is_up() -> None:
    options = make(LEAST).partition(BODY)[0].splitlines()
    assert {"#SBATCH --requeue", "#SBATCH --open-mode=append", "#SBATCH --signal=B:TERM@120"} <= set(options)


def test_what_is_not_given_is_left_to_slurm() -> None:
    options = make(LEAST).partition(BODY)[0]
    for name in ("mem", "gpus-per-node", "partition", "account", "qos", "constraint", "exclude"):
        assert f"--{name}=" not in options


def test_nodes_with_more_cpus_have_more_ports() -> None:
    assert "ports=256" in make(LEAST).splitlines()
    assert "ports=768" in make(LEAST | {"cpus_per_node": 192}).splitlines()


def test_the_log_and_the_address_have_known_places() -> None:
    profile = SlurmProfile.model_validate(LEAST)
    assert log_file(profile, "demo", "12") == "/lustre/me/studies/.clusters/demo-12.log"
    assert address_file(profile, "demo") == "/lustre/me/studies/.clusters/demo.json"


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=30)


@given(args=st.lists(WORDS, min_size=1, max_size=4), value=WORDS, folder=WORDS, temp=WORDS)
@example(args=["'; touch /tmp/x; '"], value="$(id)\n#SBATCH --account=other", folder="a b", temp="`id`")
@example(args=["END", "\n"], value="'", folder="\\", temp='"')
def test_bash_reads_every_value_as_it_was_given(args: list[str], value: str, folder: str, temp: str) -> None:
    python, temp = f"/{folder}/bin/python", f"/{temp}"[:5].rstrip("/")
    script = make(LEAST | {"python": python, "temp": temp or "/", "env": {"NOTE": value}}, args)
    header = script[: script.rindex(BODY)]
    show = '\nprintf \'%s\\0\' "$NOTE" "$python" "$temp" "${command[@]}"\n'
    done = subprocess.run(["bash", "-s"], input=(header + show).encode(), capture_output=True, check=True)
    assert done.stdout.decode().split("\0") == [value, python, temp or "/", *args, ""]
    assert done.stderr == b""
    # Slurm reads options up to the first line that is neither empty nor a comment.
    before = header.partition("\nexport NOTE=")[0].splitlines()
    assert [line for line in before if line.startswith("#SBATCH")] == [
        line for line in make(LEAST).splitlines() if line.startswith("#SBATCH")
    ]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("options", ["--x=a b"], "must be one option of sbatch"),
        ("options", ["--x=a\n#SBATCH --y"], "must be one option of sbatch"),
        ("options", ["-N4"], "must be one option of sbatch"),
        ("options", ["--nodes=4"], "'--nodes=4' cannot be given here: set `nodes`"),
        ("exclude", ["node[1-3]"], "must be the name of one node, or its IP address"),
        ("exclude", ["node1\n"], "must be the name of one node"),
        ("exclude", ["a,b"], "must be the name of one node"),
        ("options", ["--array=1-3"], "cannot be given here: a study is one job"),
        ("storage", "/a b", "letters, digits and"),
        ("storage", "/a\n", "letters, digits and"),
        ("storage", "/a/%u", "letters, digits and"),
        ("storage", "a", "must be an absolute path"),
        ("python", "python3", "must be the absolute path of a Python"),
        ("temp", "/scratch/users/somebody/tmp", "at most 20 bytes"),
        ("env", {"A-B": "1"}, "must be the name of an environment variable"),
        ("partition", "gpu\n", "string_pattern_mismatch|should match pattern"),
        ("time", "1 day", "should match pattern"),
        ("memory", "64 GB", "should match pattern"),
        ("nodes", 0, "greater than or equal to 1"),
        ("node", 1, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_field_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SlurmProfile.model_validate(LEAST | {field: value})


@pytest.mark.parametrize("name", ["", "a b", "-a", "a\nb", "$(id)", "../a", "a" * 101])
def test_a_name_that_no_job_can_have_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="cannot be the name of a job; it may have 100 letters"):
        make(LEAST, name=name)


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(ClusterError, match="the command is empty; give a program, or None to hold the cluster"):
        make(LEAST, [])
