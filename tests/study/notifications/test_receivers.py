"""Receivers take messages as they are documented, and one that fails or hangs is given up with a line."""

from __future__ import annotations

import email
import email.policy
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from web_hook import Hook

from model.errors import UserError
from model.strict import validate
from study.config.notify import NotifySettings, resolve_command
from study.notifications.message import MOST_LINES, Happening, Message
from study.notifications.receivers import Command, Mail, NotSentError, Webhook, make_receivers

Write = Callable[[str, str], Path]
Wait = Callable[[Callable[[], object]], None]
MESSAGE = Message("demo", "/studies/demo", [Happening("failure", "trial 0003 failed: é", 3), Happening("end", "done")])


def test_a_command_gets_the_message_as_json_and_in_its_environment(tmp_path: Path, write_program: Write) -> None:
    out = tmp_path / "out"
    program = write_program("report", f'cat > {out}; echo "$1|$DECRED_STUDY|$DECRED_EVENT|$DECRED_TRIAL" >> {out}')
    Command(f"{program} 'two words'").send(MESSAGE, 30)
    content, variables = out.read_text().split("\n", 0)[0].rsplit("}", 1)
    read = json.loads(content + "}")
    assert (read["schema"], read["study"], read["folder"], read["event"]) == (1, "demo", "/studies/demo", "end")
    assert read["text"] == "study demo: trial 0003 failed: é\nstudy demo: done"
    assert [(one["event"], one["trial"]) for one in read["events"]] == [("failure", 3), ("end", None)]
    assert variables.strip() == "two words|demo|end|"


def test_a_command_that_fails_gives_its_exit_code_and_its_last_line(write_program: Write) -> None:
    program = write_program("fails", "echo first >&2; echo 'no channel' >&2; exit 3")
    with pytest.raises(NotSentError, match=r"^it ended with exit code 3: no channel$"):
        Command(str(program)).send(MESSAGE, 30)


def test_a_command_that_hangs_is_killed_with_what_it_started(
    tmp_path: Path, write_program: Write, wait_until: Wait
) -> None:
    program = write_program("hangs", f"sleep 600 &\necho $! > {tmp_path}/child\nwait")
    with pytest.raises(NotSentError, match=r"did not end within 0.5 s, and was killed"):
        Command(str(program)).send(MESSAGE, 0.5)
    child = tmp_path / "child"
    if child.exists() and child.read_text().strip():  # on a busy machine it may not have come so far
        number = child.read_text().strip()
        wait_until(lambda: _has_ended(number))  # a busy machine takes a while to end what was killed


def _has_ended(number: str) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_program_that_is_not_there_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no program '/nowhere/report' here that may be executed; correct the path"):
        make_receivers(NotifySettings(command="/nowhere/report x"))
    with pytest.raises(UserError, match=r"cannot be read \(No closing quotation\); correct its quotes"):
        Command("echo 'x")
    plain = tmp_path / "plain"
    plain.write_text("text")
    with pytest.raises(UserError, match="make it executable"):
        Command(str(plain))


def test_a_webhook_gets_the_text_and_what_is_secret_in_its_url_is_never_shown(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f"{hook.url}/services/s3cret-of-many-letters?token=x1")
    webhook = Webhook("${HOOK}")
    webhook.send(MESSAGE, 30)
    assert hook.posts == [("/services/s3cret-of-many-letters?token=x1", {"text": MESSAGE.text})]
    assert str(webhook) == f"webhook {hook.url}/***"
    hook.status = 403
    with pytest.raises(NotSentError, match=r"^it answered with HTTP status 403$"):
        webhook.send(MESSAGE, 30)


def test_a_webhook_that_hangs_or_is_not_there_is_given_up_without_its_url(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook.hangs.set()
    with pytest.raises(NotSentError, match=r"^no answer"):
        Webhook(hook.url).send(MESSAGE, 0.2)
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/s3cret")
    with pytest.raises(NotSentError, match=r"^Connection refused$"):
        Webhook("${HOOK}").send(MESSAGE, 30)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T0001/B0001/abcdefghij1234567890",
        "https://me:pass@host/hook",
        "https://host/hook?token=${TOKEN}",
    ],
)
def test_a_secret_in_the_study_file_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(
        UserError, match=r"webhook: holds what may be a secret, .* write \$\{NOTIFY_WEBHOOK\}"
    ) as raised:
        validate(NotifySettings, {"webhook": url}, "study.yaml")
    assert url not in str(raised.value)
    assert "abcdef" not in str(raised.value)


def test_a_variable_that_is_not_set_or_holds_no_url_is_refused_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    with pytest.raises(
        UserError, match=r"notify.webhook is '\$\{HOOK\}', but the environment variable HOOK is not set"
    ):
        Webhook("${HOOK}")
    monkeypatch.setenv("HOOK", "s3cret")
    with pytest.raises(UserError, match=r"is no URL such as https://HOST/PATH; correct the variable") as raised:
        Webhook("${HOOK}")
    assert "s3cret" not in str(raised.value)


def test_a_mail_goes_through_sendmail_with_a_subject(
    tmp_path: Path, write_program: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mail"
    program = write_program("sendmail", f'echo "$@" > {out}; cat >> {out}')
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    Mail("me@example.org").send(MESSAGE, 30)
    arguments, _, content = out.read_text().partition("\n")
    mail = email.message_from_string(content, policy=email.policy.default)
    assert arguments == "-i -- me@example.org"
    assert (mail["To"], mail["Subject"]) == ("me@example.org", "study demo: done (and 1 more)")
    assert mail.get_content() == f"{MESSAGE.text}\n\n/studies/demo\n"


@pytest.mark.parametrize("has_home", [True, False])
def test_a_command_and_a_mail_are_sent_from_another_folder_where_the_working_folder_was_removed(
    tmp_path: Path, write_program: Write, monkeypatch: pytest.MonkeyPatch, has_home: bool
) -> None:
    home, removed, out = tmp_path / "home", tmp_path / "removed", tmp_path / "folders"
    program = write_program("sendmail", f"cat > {tmp_path}/message; pwd >> {out}")
    if has_home:
        home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    receivers = make_receivers(NotifySettings(command=str(program), mail="me@example.org"))
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    for receiver in receivers:
        receiver.send(MESSAGE, 30)
    assert out.read_text().splitlines() == [str(home) if has_home else "/"] * 2


def test_a_machine_without_sendmail_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("study.notifications.receivers.SENDMAIL_FOLDERS", ())
    with pytest.raises(UserError, match=r"has no program sendmail; install a mail transport agent"):
        make_receivers(NotifySettings(mail="me@example.org"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no receiver is given; give command, webhook or mail"),
        ({"mail": "-oQ/tmp"}, "mail: is '-oQ/tmp', but must be one address"),
        ({"mail": "a@b.org, c@d.org"}, "must be one address"),
        ({"webhook": "ftp://host/x"}, r"webhook: must be a URL such as https://HOST/PATH"),
        ({"command": "x", "on": ["begin"]}, "input should be 'end', 'stop', 'failure', 'best' or 'stall'"),
    ],
)
def test_wrong_settings_are_refused_in_a_line(given: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        validate(NotifySettings, given, "study.yaml")


def test_a_relative_program_is_relative_to_the_study_file() -> None:
    assert resolve_command("./notify.sh a b", "/home/me") == "/home/me/notify.sh a b"
    assert resolve_command("../bin/report", "/home/me") == "/home/bin/report"
    for command in ("/bin/report x", "report x", "~/report", "'./report me' x"):
        assert resolve_command(command, "/home/me") == command


def test_of_very_many_happenings_the_text_has_the_newest_and_says_so() -> None:
    happenings = [Happening("failure", f"trial {number:04d} failed", number) for number in range(MOST_LINES + 5)]
    message = Message("demo", "/d", happenings)
    lines = message.text.splitlines()
    assert lines[0] == "study demo: 5 earlier messages are left out"
    assert lines[-1] == f"study demo: trial {MOST_LINES + 4:04d} failed"
    assert len(json.loads(message.to_json())["events"]) == MOST_LINES + 5
    assert shlex.quote(message.subject)
