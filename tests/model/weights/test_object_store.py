"""What a store refuses, lacks or leaves unanswered is one line that names the URL and the remedy."""

from __future__ import annotations

import importlib
import socket
import sys
import threading
from pathlib import Path

import pytest
from free_ports import choose_port
from object_stores import READER, WRITER, Gate, S3Server

from model.errors import UserError
from model.weights import object_store
from model.weights.object_store import ObjectStore, StoreError, check_store


def test_what_is_written_is_read_listed_copied_and_removed(stored: str, tmp_path: Path) -> None:
    store, file = ObjectStore(stored), tmp_path / "file"
    store.write("a/small", b"12")
    file.write_bytes(b"345")
    store.upload(file, "a/b/file")
    assert store.copy("a/b/file", "a/copy")
    assert store.sizes("a") == {"small": 2, "b/file": 3, "copy": 3}
    assert store.sizes("") == {f"a/{name}": size for name, size in store.sizes("a").items()}
    assert store.download("a/copy", file)
    assert file.read_bytes() == b"345"
    store.remove(["a/small", "a/never", "a/b/file"])
    assert (store.read("a/small"), store.read("a/copy")) == (None, b"345")
    assert store.sizes("never") == {}
    assert not store.download("a/small", file)
    assert not store.copy("a/small", "a/c")


def test_a_store_that_can_be_used_is_left_as_it_was(stored: str) -> None:
    check_store(stored)
    assert ObjectStore(stored).sizes("") == {}


def test_a_bucket_that_is_not_there_is_named_and_not_made(stored: str) -> None:
    for _ in range(2):
        with pytest.raises(
            StoreError, match=r"^s3://bukket/studies: there is no bucket 'bukket'; make it, or correct the URL$"
        ):
            check_store("s3://bukket/studies")


@pytest.mark.parametrize(
    "keys",
    [
        {"AWS_ACCESS_KEY_ID": "nobody"},
        {"AWS_SECRET_ACCESS_KEY": "wrong"},
        READER,
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
    ],
    ids=["unknown", "wrong", "reads only", "none"],
)
def test_credentials_that_are_refused_are_one_line_without_them(
    stored: str, keys: dict[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name, value in keys.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=r"refuses the credentials \(.*\); set AWS_ACCESS_KEY_ID and") as caught:
        check_store(stored)
    assert str(caught.value).startswith(stored)
    assert "\n" not in str(caught.value)
    assert WRITER["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_an_endpoint_that_does_not_answer_is_one_line(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "CHECK_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", choose_port()))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(
            StoreError, match=r"has not answered for 0.5 s \(Could not connect .*\); start the store, or correct AWS_EN"
        ):
            check_store(stored)


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    monkeypatch.setattr(object_store, "_opened", {})
    with pytest.raises(UserError, match=r"^s3://bucket/a: needs a package .*; pip install 'decred-study\[s3\]'$"):
        ObjectStore("s3://bucket/a")


def test_a_url_that_no_store_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"^sss://bucket: is no URL of an object store .*; give s3://BUCKET/PREFIX$"):
        ObjectStore("sss://bucket")


def test_an_outage_is_waited_for(stored: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gate(s3_server.port) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        store = ObjectStore(stored, wait_seconds=100.0)
        store.write("before", b"1")
        gate.close()
        reopen = threading.Timer(1.0, gate.open)
        reopen.start()
        store.write("after", b"2")
        reopen.join()
        assert store.sizes("") == {"before": 1, "after": 1}
