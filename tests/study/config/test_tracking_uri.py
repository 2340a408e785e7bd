"""A password is never shown, whatever it consists of, and nothing else is hidden; references are resolved on demand."""

from __future__ import annotations

from unittest import mock
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from model.errors import UserError
from study.config.tracking_uri import (
    MASK,
    holds_password,
    mask_text,
    mask_uri,
    refuse_password,
    remove_user,
    resolve_uri,
)

WORDS = st.text("abcxyzABC0189-_.~%", min_size=1, max_size=8)
SCHEMES = st.sampled_from(["http", "https", "postgresql", "postgresql+psycopg", "mysql+pymysql", "mssql+pyodbc"])
PORTS = st.integers(1, 65535).map(lambda port: f":{port}") | st.just("")
PATHS = st.lists(WORDS, max_size=2).map(lambda names: "".join(f"/{name}" for name in names))
PLAIN_QUERIES = st.sampled_from(["", "?sslmode=require", "?application_name=decred&connect_timeout=3"])
PLACES = st.tuples(WORDS, PORTS, PATHS, PLAIN_QUERIES).map("".join)  # what follows the user and `@`
PASSWORDS = st.text(min_size=1, max_size=20)
NOT_SPLIT = PASSWORDS.filter(lambda password: not set(password) & set("&"))
REFERENCES = st.from_regex(r"\A(\$\{[A-Za-z_][A-Za-z0-9_]{0,9}\}){1,2}\Z")
NAMES = st.sampled_from(["password", "token", "sslpassword", "PASSWORD", "access_token", "pwd", "api_key"])


def is_taken_for_a_port(scheme: str, password: str) -> bool:
    """Whether USER:PASSWORD@ is HOST:PORT/... for every reader of the URI, and no password."""
    return scheme.startswith("http") and password.lstrip("0123456789")[:1] in ("/", "?", "#")


@given(SCHEMES, WORDS | st.just(""), PASSWORDS, PLACES)
def test_of_a_uri_the_password_alone_is_masked(scheme: str, user: str, password: str, place: str) -> None:
    if is_taken_for_a_port(scheme, password):
        password = quote(password, safe="")
    uri, masked = (f"{scheme}://{user}:{shown}@{place}" for shown in (password, MASK))
    assert mask_uri(uri) == masked
    assert mask_uri(masked) == masked
    assert holds_password(uri)
    with pytest.raises(UserError) as error:
        refuse_password(uri)
    assert str(error.value).startswith(f"tracking is '{masked}', but must not hold a password, ")


@given(SCHEMES, PLACES.filter(lambda place: "?" not in place), NAMES, NOT_SPLIT)
def test_of_a_query_the_password_alone_is_masked(scheme: str, place: str, name: str, password: str) -> None:
    if "@" in password:  # before which everything would be the user's
        password = quote(password, safe="")
    uri = f"{scheme}://{place}?sslmode=require&{name}={{}}&timeout=3"
    assert mask_uri(uri.format(password)) == uri.format(MASK)
    assert holds_password(uri.format(password))


@given(SCHEMES, st.just("") | WORDS.map(lambda user: f"{user}@"), PLACES)
def test_a_uri_without_a_password_stays(scheme: str, user: str, place: str) -> None:
    uri = f"{scheme}://{user}{place}"
    assert mask_uri(uri) == uri
    refuse_password(uri)


@given(SCHEMES, WORDS, REFERENCES, PLACES)
def test_references_stay_and_are_no_password(scheme: str, user: str, reference: str, place: str) -> None:
    for uri in (f"{scheme}://{user}:{reference}@{place}", f"{scheme}://{user}@h/?password={reference}", reference):
        assert mask_uri(uri) == uri
        refuse_password(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////data/a:b@c/mlflow.db",
        "http://host:5000/team@corp",
        "http://[::1]:5000/",
        "postgresql://me@host:5432/runs?options=a@b",
        "mlruns",
        "",
    ],
)
def test_what_looks_like_a_password_and_is_none_stays(uri: str) -> None:
    assert mask_uri(uri) == uri


@pytest.mark.parametrize(
    ("uri", "masked"),
    [
        ("postgresql://u:p@ss/w:or?d@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:5/w@h/db", "postgresql://u:***@h/db"),
        ("postgresql:/u:pw@h/db", "postgresql:***@h/db"),
        ("postgresql://u:${A}x@h/db", "postgresql://u:***@h/db"),
        ("https://u:pw@h/?token=t&x=y", "https://u:***@h/?token=***&x=y"),
        ("mssql+pyodbc:///?odbc_connect=UID%3Du%3BPWD%3Dp%3Bx", "mssql+pyodbc:///?odbc_connect=***"),
    ],
)
def test_a_password_is_found_in_uris_that_nobody_should_write(uri: str, masked: str) -> None:
    assert mask_uri(uri) == masked


# No letter of them is in the texts around.
SECRETS = st.text("QWZJ47@:/?#%& '\"\\é\n", min_size=4, max_size=16).filter(lambda secret: secret.strip())
FORMS = st.sampled_from([str, lambda secret: quote(secret, safe=""), lambda secret: repr(secret)[1:-1]])


@given(SECRETS, FORMS, st.sampled_from(["postgresql://me:${PW}@host/runs", "https://host/?token=${PW}", "${ALL}"]))
def test_no_text_has_the_value_of_a_reference_in_any_form(secret: str, form: object, uri: str) -> None:
    variables = {"PW": secret, "ALL": f"postgresql://me:{quote(secret, safe='')}@host/runs"}
    with mock.patch.dict("os.environ", variables):
        shown = form(secret)  # type: ignore[operator]
        assert mask_text(f"could not log in with {shown}, give up", uri) == f"could not log in with {MASK}, give up"
        url = resolve_uri(uri)
        assert quote(secret, safe="") in url
        assert quote(secret, safe="") not in mask_text(f"API request to {url}/api failed", uri)


@given(SCHEMES, WORDS, SECRETS, PLACES)
def test_no_text_has_the_password_of_the_uri_in_any_form(scheme: str, user: str, secret: str, place: str) -> None:
    encoded = quote(secret, safe="")
    uri = f"{scheme}://{user}:{encoded}@{place}"
    for form in (secret, encoded, repr(secret)[1:-1]):
        assert mask_text(f"no login: {form}; give up", uri) == f"no login: {MASK}; give up"
    # Where the URI is not known either, as that of a proxy.
    assert mask_text(f"no answer of {uri} now") == f"no answer of {scheme}://{user}:{MASK}@{place} now"


def test_a_short_password_is_masked_where_it_stands_alone() -> None:
    assert mask_text("at 'a' of an answer: a", "postgresql://me:a@host/runs") == "at '***' of an answer: ***"


@given(PASSWORDS.filter(lambda value: "\0" not in value), SCHEMES)
def test_a_variable_holds_the_password_as_it_is(password: str, scheme: str) -> None:
    with mock.patch.dict("os.environ", {"USER_NAME": "m/e", "PW": password}):
        uri = resolve_uri(f"{scheme}://${{USER_NAME}}:${{PW}}@host:99/runs?token=${{PW}}")
    assert (unquote(urlsplit(uri).password or ""), urlsplit(uri).port) == (password, 99)
    read = make_url(uri)  # as SQLAlchemy does
    assert (read.username, read.password, read.host, read.database) == ("m/e", password, "host", "runs")
    assert read.query["token"] == password
    assert remove_user(uri).startswith(f"{scheme}://host:99/runs?token=")


def test_a_host_a_path_and_a_whole_uri_may_come_from_the_environment() -> None:
    with mock.patch.dict("os.environ", {"HOST": "host:5432", "NAME": "a/b", "ALL": "postgresql://me:p%40@host/runs"}):
        assert resolve_uri("postgresql://me@${HOST}/${NAME}") == "postgresql://me@host:5432/a/b"
        assert resolve_uri("${ALL}") == "postgresql://me:p%40@host/runs"


@pytest.mark.parametrize(
    "uri", ["http://h/$HOME", "http://h/${}", "http://h/$${", "http://h/${a-b}", "http://h/{HOME}"]
)
def test_nothing_else_is_a_reference(uri: str) -> None:
    assert resolve_uri(uri) == uri


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    line = (
        r"^tracking is 'mysql://u:\$\{NOT_SET\}@h/\?pwd=\*\*\*', but the environment variable NOT_SET is not set; set"
    )
    with pytest.raises(UserError, match=line):
        resolve_uri("mysql://u:${NOT_SET}@h/?pwd=x")
