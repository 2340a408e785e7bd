"""The command `dashboard`: MLflow's page, opened on a study."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from study.cli.arguments import AnyStudy, On, find_mounted, open_ledger, read_name


def dashboard(
    study: AnyStudy,
    on: On = None,
    port: Annotated[int, typer.Option(help="port of MLflow's page")] = 5000,
    host: Annotated[str, typer.Option(help="interface it listens on; 0.0.0.0 opens it to the network")] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="open the page in a browser, where there is a display")
    ] = True,
) -> None:
    """Open MLflow's page on the study's runs; Ctrl-C ends it. Of an MLflow server, open its own page.

    It opens with the verdict once finalists are chosen, else with all trials; the other views and the charts are
    printed. Of a study on a cluster whose storage is not mounted here it is the page of a copy of its database as it is
    now.
    """
    from study.tracking.mlflow_store import is_server, page_url, ui_command, ui_environment
    from study.tracking.pages import describe_pages, find_pages, has_display, open_later

    uri, name = _find_store(study, on)
    server = page_url(uri) if is_server(uri) else f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    pages = find_pages(uri, server, name)
    if is_server(uri):
        typer.echo("tracking is an MLflow server with a page of its own; open in a browser:")
    else:
        typer.echo(f"MLflow on http://{host}:{port}; Ctrl-C ends it")
    for line in describe_pages(pages):
        typer.echo(f"  {line}")
    if browser and has_display():
        open_later(next(iter(pages.values())))
    if is_server(uri):
        return
    command, environment = ui_command(host, port), ui_environment(uri)
    sys.stdout.flush()
    os.execve(command[0], command, environment)  # this process becomes the server, so that ending it ends the page


def _find_store(study: AnyStudy, on: str | None) -> tuple[str, str]:
    """The URI of a study's store, or of a copy of it, and the study's name."""
    from study.tracking.mlflow_store import store_uri

    found = find_mounted(on, study)
    if found is None:
        from study.remote.pages import fetch_store

        assert on is not None
        return fetch_store(on, read_name(study)), read_name(study)
    ledger = open_ledger(found)
    return store_uri(ledger.study.tracking, ledger.folder), ledger.study.name
