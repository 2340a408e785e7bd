"""Objects under a URL that fsspec knows, such as s3://bucket/prefix; each error is one line that names the URL.

Credentials and endpoint come from the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...) and are written nowhere.
An outage is waited for: an action is tried again until it succeeds or `wait_seconds` are over.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from model.errors import UserError
from model.runtime.progress import note_progress

T = TypeVar("T")

CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
CHECK_SECONDS = 5.0  # for a store to answer before a study starts
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds before another try
FULL = (errno.ENOSPC, errno.EDQUOT)  # of this machine's disk
_S3_PROTOCOLS = ("s3", "s3a")
# s3fs and botocore would each try again, and so hide for how long.
_S3 = {"config_kwargs": {"retries": {"total_max_attempts": 1}}, "use_listings_cache": False}
_OPTIONS: dict[str, dict[str, Any]] = {**dict.fromkeys(_S3_PROTOCOLS, _S3), "file": {"auto_mkdir": True}}


class StoreError(UserError):
    """An object store cannot be used, or has not answered for too long."""


class ObjectStore:
    """Objects below a URL; names are relative to it, with `/`."""

    def __init__(self, url: str, wait_seconds: float = CHECK_SECONDS) -> None:
        """Nothing is asked yet. A UserError where the package for the URL is missing."""
        self.url, self.wait_seconds = url.rstrip("/"), wait_seconds
        self._protocol = self.url.partition("://")[0]
        self._files, self._root = _open(self.url)

    def sizes(self, folder: str) -> dict[str, int]:
        """The bytes of each object below a folder, by its name relative to that; empty where there is none."""
        place = self._path(folder)
        try:
            found = self._try(lambda: self._files.find(place, detail=True))
        except FileNotFoundError:
            return {}
        start = len(self._files._strip_protocol(place)) + 1
        # Some stores list the folder itself, once it is empty.
        return {name[start:]: int(entry["size"]) for name, entry in found.items() if name[start:]}

    def read(self, name: str) -> bytes | None:
        """An object's content; None where it is not there."""
        try:
            content: bytes = self._try(lambda: self._files.cat_file(self._path(name)))
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a small object."""
        self._put(lambda: self._files.pipe_file(self._path(name), content))

    def upload(self, file: Path, name: str) -> None:
        """Write a file's content."""
        self._put(lambda: self._files.put_file(str(file), self._path(name)))

    def download(self, name: str, file: Path) -> bool:
        """Write an object's content into a file; False where it is not there."""
        try:
            self._try(lambda: self._files.get_file(self._path(name), str(file)))
        except FileNotFoundError:
            return False
        return True

    def copy(self, name: str, target: str) -> bool:
        """Copy an object within the store; False where it is not there."""
        try:
            self._try(lambda: self._files.cp_file(self._path(name), self._path(target)))
        except FileNotFoundError:
            return False
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects, in this order; nothing where one is not there."""
        for name in names:
            try:
                self._try(lambda name=name: self._files.rm_file(self._path(name)))  # type: ignore[misc]
            except FileNotFoundError:
                continue

    def check(self) -> None:
        """Raise a StoreError unless objects can be written here, read, listed and removed; nothing is left."""
        if self._protocol in _S3_PROTOCOLS:
            self._find_bucket()
        name, content = f".decred-check-{uuid.uuid4().hex}/probe", b"decred-study"
        self.write(name, content)
        try:
            if self.read(name) != content or name.split("/")[1] not in self.sizes(name.split("/")[0]):
                raise StoreError(f"{self.url} does not give back what was written; use a store that does")
        finally:
            self.remove([name])

    def _find_bucket(self) -> None:
        """A StoreError where it is missing; some stores make it without a word when something is written there."""
        bucket, _, prefix = self._root.partition("/")
        try:
            self._try(lambda: self._files.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=1))
        except FileNotFoundError:
            raise self._no_bucket() from None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _put(self, action: Callable[[], Any]) -> None:
        try:
            self._try(action)
        except FileNotFoundError as error:
            raise self._no_bucket() from error

    def _no_bucket(self) -> StoreError:
        bucket = self._root.partition("/")[0]
        return StoreError(f"{self.url}: there is no bucket '{bucket}'; make it, or correct the URL")

    def _try(self, action: Callable[[], T]) -> T:
        """What the action returns, at the last after `wait_seconds`. A FileNotFoundError is raised as it is."""
        deadline, pause = time.monotonic() + self.wait_seconds, _FIRST_PAUSE
        while True:
            try:
                return action()
            except FileNotFoundError:
                raise
            except Exception as error:  # each file system and its HTTP client raise their own
                if isinstance(error, OSError) and error.errno in FULL:
                    raise
                if refuses_credentials(error):
                    raise StoreError(
                        f"{self.url} refuses the credentials ({_shorten(error)}); {CREDENTIALS}, with the right to "
                        "read, write, list and delete there"
                    ) from error
                if time.monotonic() + pause >= deadline:
                    raise StoreError(
                        f"{self.url} has not answered for {self.wait_seconds:g} s ({_shorten(error)}); start the "
                        "store, or correct AWS_ENDPOINT_URL or the URL"
                    ) from error
            note_progress()  # it waits, for no longer than it may
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def check_store(url: str) -> None:
    """Raise a UserError of one line unless objects can be written under the URL, read, listed and removed."""
    ObjectStore(url, CHECK_SECONDS).check()


def refuses_credentials(error: Exception) -> bool:
    """Whether there are no credentials, or some that the store refuses, which trying again would not change."""
    return isinstance(error, PermissionError) or "Credential" in type(error).__name__


_opened: dict[tuple[object, ...], Any] = {}  # file systems: to make one of S3 takes half a second


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path of the URL in it."""
    import fsspec

    protocol = url.partition("://")[0]
    # fsspec would give the same one whatever the environment has become since.
    environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
    key = (protocol, os.getpid(), hash(environment))
    try:
        if key not in _opened:
            _opened[key] = fsspec.filesystem(protocol, skip_instance_cache=True, **_OPTIONS.get(protocol, {}))
        files = _opened[key]
        root = files._strip_protocol(url)
    except ImportError as error:
        remedy = "pip install 'decred-study[s3]'" if protocol in _S3_PROTOCOLS else "install that package"
        raise UserError(f"{url}: needs a package that is not installed ({_shorten(error)}); {remedy}") from None
    except ValueError as error:
        raise UserError(f"{url}: is no URL of an object store ({_shorten(error)}); give s3://BUCKET/PREFIX") from None
    if protocol in _S3_PROTOCOLS:
        files.retries = 1
    return files, str(root).rstrip("/")


def _shorten(error: Exception | None) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
