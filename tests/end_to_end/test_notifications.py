"""A study whose messages go to a real web server and a real program, on a disk that has no room for it at first; and
`status` for scripts beside it.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner
from web_hook import Hook

from model.corpora.corpus import Corpus
from model.errors import UserError
from study.cli.main import app
from study.ledger.ledger import Ledger
from study.runner import Work, run_study


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.close()


def status(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["status", "studies/probe", *options], catch_exceptions=False)
    return result.exit_code, result.output


def test_a_study_waits_for_disk_space_stops_with_a_message_and_continues_to_its_end_with_another(
    ray_here: None, stub: Work, study_in: Callable[..., Path], hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_HOOK", f"{hook.url}/s3cret-path")
    out, console = Path("messages.jsonl").resolve(), Console(file=io.StringIO(), width=300)
    program = Path("keep.sh")
    program.write_text(f"#!/bin/sh\ncat >> {out}\necho >> {out}\n")
    program.chmod(0o755)
    notify = {"webhook": "${PROBE_HOOK}", "command": "./keep.sh", "pause_seconds": 0.0, "on": ["end", "stop"]}
    changes = {"notify": notify}
    full = {"reserve_gib": 10.0**9, "wait_seconds": 1.0}

    assert run_study(study_in(**changes, disk=full), console=console, work=stub) == 1
    assert not Ledger.open(Path("studies/probe")).trials
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "stopped: waited 1 s (disk.wait_seconds): waiting for free space: the disk of" in printed
    code, output = status("--exit-code", "--json")
    assert code == 4
    assert json.loads(output)["study"]["reason"].startswith("waited 1 s (disk.wait_seconds)")

    assert run_study(study_in(**changes), console=console, work=stub) == 0
    code, output = status("--exit-code", "--watch")
    assert (code, output.splitlines()[-1]) == (0, "study probe: complete")
    assert len(hook.texts) == 2
    assert hook.texts[0].startswith("study probe: it has stopped: waited 1 s (disk.wait_seconds)")
    assert hook.texts[0].endswith("continue with: decred-study run " + str(Path("study.yaml").resolve()))
    assert hook.texts[1].startswith("study probe: it has ended; trial 000")
    messages = [json.loads(line) for line in out.read_text().splitlines()]
    assert [message["event"] for message in messages] == ["stop", "end"]
    assert messages[0]["folder"] == str(Path("studies/probe").resolve())
    recorded = (Path("studies/probe") / "study.yaml").read_text()
    assert "${PROBE_HOOK}" in recorded
    everything = [path.read_bytes() for path in Path("studies/probe").rglob("*") if path.is_file()]
    assert not any(b"s3cret-path" in content for content in everything)
    assert "s3cret-path" not in console.file.getvalue()  # type: ignore[attr-defined]


def write_study(folder: Path, corpus: Corpus, notify: dict[str, object]) -> str:
    content = {"name": "probe", "corpus": str(corpus.folder), "search": {"ctc_weight": {"uniform": [0.1, 0.6]}}}
    (folder / "study.yaml").write_text(yaml.safe_dump(content | {"notify": notify}))
    return str(folder / "study.yaml")


def test_the_command_notify_says_of_each_receiver_what_became_of_a_message(
    tmp_path: Path, corpus: Corpus, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_HOOK", f"{hook.url}/s3cret-path")
    study = write_study(tmp_path, corpus, {"webhook": "${PROBE_HOOK}", "command": "/bin/sh -c 'cat > /dev/null'"})
    result = CliRunner().invoke(app, ["notify", study], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output == (
        f"command '/bin/sh': has taken the message\nwebhook {hook.url}/***: has taken the message\n"
    )
    assert hook.texts == ["study probe: this is a test of its notifications"]
    hook.status = 500
    result = CliRunner().invoke(app, ["notify", study], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.output.splitlines()[1] == f"webhook {hook.url}/***: failed, it answered with HTTP status 500"


def test_a_study_without_receivers_or_with_one_that_is_not_there_is_refused_in_a_line(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_study(tmp_path, corpus, {"command": "./notify.sh"})
    words = rf"no program '{tmp_path}/notify.sh' here that may be executed"
    for command in ("notify", "validate"):
        with pytest.raises(UserError, match=words):
            CliRunner().invoke(app, [command, study], catch_exceptions=False)
    monkeypatch.delenv("PROBE_HOOK", raising=False)
    study = write_study(tmp_path, corpus, {"webhook": "${PROBE_HOOK}"})
    with pytest.raises(UserError, match="the environment variable PROBE_HOOK is not set"):
        CliRunner().invoke(app, ["validate", study], catch_exceptions=False)
    content = yaml.safe_load(Path(study).read_text())
    del content["notify"]
    Path(study).write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="has no key 'notify'; give it a command, a webhook or a mail address"):
        CliRunner().invoke(app, ["notify", study], catch_exceptions=False)
    assert os.listdir(tmp_path) == ["study.yaml"]
