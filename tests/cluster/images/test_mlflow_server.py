"""The MLflow server of the compose file and of the manifest: what they say, and that its command starts a server."""

from __future__ import annotations

import base64
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from free_ports import choose_port
from mlflow.cli import server as mlflow_server

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "cluster" / "images"
SECRET = re.compile(r"PASSWORD|SECRET|KEY|TOKEN")
PASSWORD = "a-password-of-the-tests"


def compose() -> dict[str, Any]:
    return yaml.safe_load((IMAGES / "mlflow-compose.yaml").read_text())["services"]


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((IMAGES / "mlflow-kubernetes.yaml").read_text()))


def pods() -> dict[str, dict[str, Any]]:
    deployments = [part for part in manifests() if part["kind"] == "Deployment"]
    return {part["metadata"]["name"]: part["spec"]["template"]["spec"] for part in deployments}


def containers() -> list[dict[str, Any]]:
    return [container for pod in pods().values() for container in pod["containers"]]


def kubernetes_command() -> list[str]:
    return pods()["mlflow"]["containers"][0]["args"]


@pytest.mark.parametrize("command", [compose()["mlflow"]["command"], kubernetes_command()], ids=["compose", "manifest"])
def test_mlflow_knows_every_option_of_the_command(command: list[str]) -> None:
    assert command[:2] == ["mlflow", "server"]
    options = mlflow_server.make_context("server", command[2:]).params
    assert options["app_name"] == "basic-auth"
    assert options["backend_store_uri"] == "postgresql+psycopg://"  # the rest, the password too, is in PG* variables
    assert options["artifacts_destination"] == "s3://mlflow"


def test_both_files_start_the_same_server() -> None:
    assert compose()["mlflow"]["command"] == kubernetes_command()
    (artifacts,) = pods()["mlflow-artifacts"]["containers"]
    assert compose()["artifacts"]["command"] == artifacts["args"]
    here = {service["image"] for service in compose().values()}
    assert here == {container["image"] for container in containers()}


def test_every_image_is_pinned_and_mlflow_is_the_clients_version() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    images = [service["image"] for service in compose().values()]
    for image in images:
        assert re.fullmatch(r"[a-z/-]+:[0-9][\w.-]*", image), image
    assert f"decred-mlflow:{pins['mlflow']}" in images


def test_the_compose_file_holds_no_secret_and_says_which_one_is_missing() -> None:
    example = (IMAGES / "mlflow.env.example").read_text()
    for service in compose().values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                (variable,) = re.fullmatch(r"\$\{(\w+):\?set it in mlflow\.env\}", value).groups()  # type: ignore[union-attr]
                assert re.search(rf"^{variable}=$", example, re.MULTILINE)


def test_the_manifest_takes_every_secret_from_the_secret_made_of_the_same_file() -> None:
    keys = set(re.findall(r"^(\w+)=", (IMAGES / "mlflow.env.example").read_text(), re.MULTILINE))
    for container in containers():
        for variable in container["env"]:
            if SECRET.search(variable["name"]):
                source = variable["valueFrom"]["secretKeyRef"]
                assert source["name"] == "decred-mlflow"
                assert source["key"] in keys


def test_no_uri_holds_a_password() -> None:
    text = "".join(path.read_text() for path in IMAGES.iterdir() if path.is_file())
    for uri in re.findall(r"[a-z0-9+]+://[^\s\"']+", text):
        assert urlsplit(uri).password is None, uri


def test_every_service_and_claim_of_the_manifest_is_there() -> None:
    parts = manifests()
    claims = {part["metadata"]["name"] for part in parts if part["kind"] == "PersistentVolumeClaim"}
    services = {part["metadata"]["name"] for part in parts if part["kind"] == "Service"}
    used = [
        volume["persistentVolumeClaim"]["claimName"] for pod in pods().values() for volume in pod.get("volumes", ())
    ]
    assert set(used) == claims
    assert services == set(pods())
    hosts = {variable["name"]: variable.get("value") for variable in pods()["mlflow"]["containers"][0]["env"]}
    assert hosts["PGHOST"] in services
    assert urlsplit(hosts["MLFLOW_S3_ENDPOINT_URL"]).hostname in services  # type: ignore[type-var]


def test_services_select_the_pods_of_their_name() -> None:
    labels = {
        part["metadata"]["name"]: part["spec"]["template"]["metadata"]["labels"]
        for part in manifests()
        if part["kind"] == "Deployment"
    }
    for part in manifests():
        if part["kind"] == "Service":
            assert part["spec"]["selector"] == labels[part["metadata"]["name"]]


def test_mlflow_is_not_misled_by_the_variables_of_its_own_service() -> None:
    assert pods()["mlflow"]["enableServiceLinks"] is False


class Started:
    """The server of the compose file, in its image's environment, on loopback."""

    def __init__(self, port: int, process: Any, log: Path) -> None:
        self.port, self.process, self.log = port, process, log

    def ask(self, path: str, user: str | None = None, password: str = "", host: str | None = None) -> int:
        """The HTTP status of a page."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if user is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")
        if host is not None:
            request.add_header("Host", host)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def wait(self) -> None:
        deadline = time.monotonic() + 300
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                if self.ask("/health") == 200:
                    return
            except OSError:
                time.sleep(0.5)


@pytest.fixture
def started(overlay: Any, parse_dockerfile: Any, new_database: Callable[[], str], tmp_path: Path) -> Iterator[Started]:
    overlay.build(parse_dockerfile("mlflow.Dockerfile"), ROOT)
    database, port = urlsplit(new_database()), choose_port()
    # As in the compose file, but for the places: a PostgreSQL and a folder of the test, and an address of loopback.
    given = compose()["mlflow"]["environment"]
    plain = {name: value for name, value in given.items() if not value.startswith("${")}
    places = {"PGHOST": database.hostname, "PGPORT": str(database.port), "PGUSER": database.username}
    places |= {"PGDATABASE": database.path[1:], "MLFLOW_SERVER_ALLOWED_HOSTS": "127.0.0.1:*"}
    secrets = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": "key"}
    overlay.variables |= plain | places | secrets
    replaced = {"--host": "127.0.0.1", "--port": str(port), "--artifacts-destination": "/home/mlflow/artifacts"}
    words = [word.partition("=") for word in compose()["mlflow"]["command"]]
    command = " ".join(f"{name}{equals}{replaced.get(name, value)}" for name, equals, value in words)
    log = tmp_path / "server.log"
    process = overlay.start(f"exec {command}", log)
    try:
        server = Started(port, process, log)
        server.wait()
        yield server
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.images
@pytest.mark.timeout(1800)
def test_the_server_answers_whoever_has_the_password_and_no_other(started: Started) -> None:
    page = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert started.ask(page) == 401
    assert started.ask(page, "admin", "another-password") == 401
    assert started.ask(page, "admin", PASSWORD) == 200
    assert started.ask(page, "admin", PASSWORD, host="elsewhere.example") == 403  # and under no other name
    assert started.ask("/health", host="10.1.2.3:5000") == 200  # which Kubernetes asks by the pod's address
