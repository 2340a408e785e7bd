"""The image of head and workers: its instructions run, from the first to the last, and what comes of them works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cluster.kuberay.profile import KubeRayProfile

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "cluster" / "images"
DOCKERFILES = ("Dockerfile", "mlflow.Dockerfile")


def read_pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.mark.images
@pytest.mark.timeout(1800)  # 6 GB are downloaded and unpacked: 2 minutes, and 6 on a busy machine
def test_the_instructions_make_an_environment_in_which_a_user_runs_ray(overlay: Any, parse_dockerfile: Any) -> None:
    overlay.build(parse_dockerfile("Dockerfile"), ROOT)
    who = overlay.run("id --user --name")
    assert who.stdout == "decred\n"
    pins = read_pins()
    for shell in ("bash -c", "bash --login -c"):  # KubeRay starts Ray in either, depending on its version
        versions = overlay.run(f"{shell} 'ray --version; decred-study --version'")
        assert versions.stdout.startswith(f"ray, version {pins['ray']}\ndecred-study ")
    # The libraries that no Python package brings would be missed here: libsndfile is soundfile's own, libpq psycopg's.
    code = "import cluster, model, search_spaces, study, soundfile, torch, torchaudio, psycopg, espeakng_loader; "
    code += "print(torch.__version__)"
    imports = overlay.run(f"python -c '{code}'")
    assert imports.stdout.startswith(pins["torch"]), imports.stderr
    refused = overlay.run("touch /opt/decred/file")
    assert "Permission denied" in refused.stderr


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_instruction_is_one_that_the_builder_of_the_tests_follows(name: str, parse_dockerfile: Any) -> None:
    followed = {"ARG", "FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "EXPOSE"}
    names = [part.name for part in parse_dockerfile(name)]
    assert set(names) <= followed
    assert {"RUN", "COPY", "USER"} <= set(names)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_base_is_pinned_by_a_tag_and_may_be_another(name: str, parse_dockerfile: Any) -> None:
    first, second, *_ = parse_dockerfile(name)
    assert (first.name, second.name, second.value) == ("ARG", "FROM", "${BASE}")
    assert re.fullmatch(r"BASE=python:3\.11-[a-z-]+", first.value)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_is_there_and_reaches_the_builder(name: str, list_copied: Any) -> None:
    lines = (IMAGES / f"{name}.dockerignore").read_text().splitlines()
    assert "*" in lines  # nothing but what is named
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for source in list_copied(name):
        assert (ROOT / source).exists()
        assert any(source == entry or source.startswith(f"{entry}/") for entry in sent), f"{source} is not sent"


@pytest.mark.parametrize("name", DOCKERFILES)
def test_processes_run_as_a_user_without_rights(name: str, parse_dockerfile: Any) -> None:
    users = [part.value for part in parse_dockerfile(name) if part.name == "USER"]
    assert users
    assert users[-1] not in ("root", "0")


def test_pods_run_as_the_images_user_with_the_images_ray(parse_dockerfile: Any) -> None:
    (line,) = [part.value for part in parse_dockerfile("Dockerfile") if "useradd" in part.value]
    fields = KubeRayProfile.model_fields
    assert f"--uid {fields['user'].default} " in line
    assert fields["ray_version"].default == read_pins()["ray"]


def test_the_files_lie_in_a_package_and_none_is_ignored() -> None:
    # The wheel holds all files of a package, but those that .gitignore names.
    ignored = (ROOT / ".gitignore").read_text().split()
    names = {path.name for path in IMAGES.iterdir() if path.is_file()}
    assert {"Dockerfile", "mlflow.Dockerfile", "mlflow-compose.yaml", "mlflow-kubernetes.yaml"} <= names
    assert not [name for name in names if name in ignored]
