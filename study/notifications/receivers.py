"""Who gets messages: a command, a webhook, an address. Each is tried once, and given up after some seconds."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from email.message import EmailMessage
from http.client import HTTPException
from typing import Protocol

from model.errors import UserError
from study.config.notify import NotifySettings, mask_webhook, resolve_webhook
from study.notifications.message import Message

SECONDS = 10.0  # that a receiver may take
SENDMAIL_FOLDERS = ("/usr/sbin", "/usr/lib", "/usr/local/sbin")  # that are seldom on a user's PATH
_LONGEST_REASON = 200  # characters


class NotSentError(Exception):
    """A message was not taken; the reason in one line, without secrets."""


class Receiver(Protocol):
    """Takes messages. Its text names it, without secrets."""

    def send(self, message: Message, seconds: float) -> None:
        """Deliver a message within so many seconds; a NotSentError where that fails."""


class Command:
    """A program of the user's, which gets the message as JSON on its standard input."""

    def __init__(self, line: str) -> None:
        """A UserError where the program is not there."""
        try:
            self._words = shlex.split(line)
        except ValueError as error:
            raise UserError(f"notify.command is '{line}', which cannot be read ({error}); correct its quotes") from None
        program = os.path.expanduser(self._words[0]) if self._words else ""
        if shutil.which(program) is None:
            raise UserError(
                f"notify.command is '{line}', but there is no program '{program}' here that may be executed; correct "
                "the path, or make it executable"
            )
        self._words[0] = program

    def __str__(self) -> str:
        return f"command '{self._words[0]}'"

    def send(self, message: Message, seconds: float) -> None:
        _run(self._words, message.to_json(), seconds, message.to_environment())


class Webhook:
    """A URL that takes {"text": ...} by POST."""

    def __init__(self, url: str) -> None:
        """A UserError where an environment variable in the URL is missing."""
        self._url = resolve_webhook(url)

    def __str__(self) -> str:
        return f"webhook {mask_webhook(self._url)}"

    def send(self, message: Message, seconds: float) -> None:
        content = json.dumps({"text": message.text}, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "decred-study"}
        request = urllib.request.Request(self._url, content, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                response.read(1)
        except urllib.error.HTTPError as error:
            raise NotSentError(f"it answered with HTTP status {error.code}") from None
        except TimeoutError:
            raise NotSentError(f"no answer within {seconds:g} s") from None
        except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
            raise NotSentError(_describe(error)) from None


class Mail:
    """An address, reached by the program sendmail."""

    def __init__(self, address: str) -> None:
        """A UserError where this machine has no sendmail."""
        self._address = address
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SENDMAIL_FOLDERS])
        program = shutil.which("sendmail", path=path)
        if program is None:
            raise UserError(
                f"notify.mail is '{address}', but this machine has no program sendmail; install a mail transport agent "
                "such as msmtp-mta or postfix, or use notify.command"
            )
        self._program = program

    def __str__(self) -> str:
        return f"mail to {self._address}"

    def send(self, message: Message, seconds: float) -> None:
        mail = EmailMessage()
        mail["To"], mail["Subject"] = self._address, " ".join(message.subject.split())
        mail["Auto-Submitted"] = "auto-generated"  # no vacation reply
        mail.set_content(f"{message.text}\n\n{message.folder}\n", cte="quoted-printable")
        _run([self._program, "-i", "--", self._address], mail.as_string(), seconds, {})


def make_receivers(settings: NotifySettings) -> list[Receiver]:
    """The receivers of the settings; a UserError for the first one that cannot be reached in this way."""
    receivers: list[Receiver] = []
    if settings.command is not None:
        receivers.append(Command(settings.command))
    if settings.webhook is not None:
        receivers.append(Webhook(settings.webhook))
    if settings.mail is not None:
        receivers.append(Mail(settings.mail))
    return receivers


def _run(words: list[str], text: str, seconds: float, variables: dict[str, str]) -> None:
    """Run a program, with all that it starts, for so many seconds at most."""
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | variables,
            start_new_session=True,  # Ctrl-C for the study is none for a message about it
            cwd=_find_folder(),
        )
    except OSError as error:
        raise NotSentError(f"it cannot be started ({error.strerror})") from None
    try:
        _, errors = process.communicate(text.encode(), seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise NotSentError(f"it did not end within {seconds:g} s, and was killed") from None
    if process.returncode:
        said = errors.decode(errors="replace").strip().splitlines()
        reason = f": {said[-1][:_LONGEST_REASON]}" if said else ""
        raise NotSentError(f"it ended with exit code {process.returncode}{reason}")


def _find_folder() -> str | None:
    """Where a program runs: here; where this folder was removed, in the user's home, or in the root folder."""
    try:
        os.getcwd()
    except OSError:
        home = os.path.expanduser("~")
        return home if os.path.isdir(home) and os.access(home, os.X_OK) else os.sep
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and what it has started, which may hold its output open."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _describe(error: Exception) -> str:
    """Why a connection failed; neither kind of error has the URL's path, and of others only the kind is given."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError):
        return (reason.strerror or type(reason).__name__)[:_LONGEST_REASON]
    return type(reason).__name__
