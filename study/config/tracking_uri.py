"""A tracking URI as people write it: with references to environment variables, and never shown with a password.

`postgresql://me:${PGPASSWORD}@host/runs` stays as it is written in study files, the ledger, messages and uploads, and
`resolve_uri` puts the value in at the moment when MLflow is called. Every URI, and every text of an error that may hold
one, goes through `mask_uri` or `mask_text` before it is printed or logged.
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote

from model.errors import UserError

MASK = "***"
EXAMPLE = "${MLFLOW_TRACKING_PASSWORD}"

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
# A password may hold `@`, `/`, `?` or `#` that were not percent-encoded, as SQLAlchemy accepts most of them; so it
# reaches to the last `@`. Of a server's URI, HOST:PORT/ is none.
_OF_DATABASE = re.compile(r"(?!/)[^:@]*:(.*)@", re.DOTALL)
_OF_SERVER = re.compile(r"[^:@/?#]*:(?!\d*[/?#])(.*)@", re.DOTALL)
_USER = re.compile(r"[^/?#]*@")
_IN_QUERY = re.compile(
    r"[?&;][^=&]*(?:password|passwd|pwd|token|secret|api_?key|odbc_connect)[^=&]*=([^&]*)", re.IGNORECASE
)
_EMBEDDED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+")
_SHORT = 4  # letters: what is shorter is masked where it stands alone, since every text has it somewhere


def mask_uri(uri: str) -> str:
    """The URI with *** for each password; references to the environment stay, and so does everything else."""
    for start, end in reversed(_find_literals(uri)):
        uri = uri[:start] + MASK + uri[end:]
    return uri


def mask_text(text: str, uri: str = "") -> str:
    """The text of an error without passwords: those of `uri`, in each form of them, and of every URI in the text."""
    for secret in sorted(_list_secrets(uri), key=len, reverse=True):
        pattern = re.escape(secret)
        text = re.sub(pattern if len(secret) >= _SHORT else rf"(?<!\w){pattern}(?!\w)", MASK, text)
    return _EMBEDDED.sub(lambda match: mask_uri(match[0]), text)


def refuse_password(uri: str | None) -> None:
    """A UserError where the URI holds a password itself instead of a reference to the environment."""
    if uri is not None and holds_password(uri):
        raise UserError(
            f"tracking is '{mask_uri(uri)}', but must not hold a password, which the study's folder, uploads and their "
            f"readers would see; write {EXAMPLE} in its place, and set that environment variable"
        )


def holds_password(uri: str) -> bool:
    """Whether a part of a password is written out in the URI."""
    return bool(_find_literals(uri))


def resolve_uri(uri: str) -> str:
    """The URI with the values of its environment variables; a UserError where one is not set.

    A variable holds a password as it is, as PGPASSWORD does; here it is percent-encoded.
    """

    def look_up(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise UserError(
                f"tracking is '{mask_uri(uri)}', but the environment variable {match[1]} is not set; set it, or "
                "name another one"
            )
        return quote(value, safe="") if _is_encoded(uri, match) else value

    return _REFERENCE.sub(look_up, uri)


def remove_user(uri: str) -> str:
    """The URI without user and password."""
    start = _find_authority(uri)
    match = _match_password(uri) or _USER.match(uri, start)
    return uri[:start] + uri[match.end() :] if match else uri


def _find_authority(uri: str) -> int:
    return uri.find("://") + 3 if "://" in uri else 0


def _match_password(uri: str) -> re.Match[str] | None:
    pattern = _OF_SERVER if uri.lower().startswith("http") else _OF_DATABASE
    return pattern.match(uri, _find_authority(uri))


def _find_passwords(uri: str) -> list[tuple[int, int]]:
    """Where passwords are, from left to right."""
    match = _match_password(uri)
    spans = [match.span(1)] if match else []
    return spans + [found.span(1) for found in _IN_QUERY.finditer(uri, match.end() if match else 0)]


def _find_literals(uri: str) -> list[tuple[int, int]]:
    """Where passwords are that consist of more than references."""
    return [(start, end) for start, end in _find_passwords(uri) if _REFERENCE.sub("", uri[start:end])]


def _is_encoded(uri: str, reference: re.Match[str]) -> bool:
    """Whether the reference is a part of the user, the password or the query, and not of host or path, or all."""
    user = _match_password(uri) or _USER.match(uri, _find_authority(uri))
    in_user = user is not None and _find_authority(uri) <= reference.start() < user.end()
    return in_user or "?" in uri[: reference.start()]


def _list_secrets(uri: str) -> set[str]:
    """The passwords of a URI, and the values of its references that may be one, in each form that a text may have."""
    references = [match[1] for match in _REFERENCE.finditer(uri) if _is_encoded(uri, match)]
    values = {os.environ.get(name, "") for name in references}
    whole = _REFERENCE.sub(lambda match: os.environ.get(match[1], match[0]), uri)
    values |= {whole[start:end] for start, end in _find_literals(whole)}
    plain = {form for value in values for form in (value, unquote(value))}
    return {form for value in plain for form in (value, quote(value, safe=""), repr(value)[1:-1])} - {"", MASK}
