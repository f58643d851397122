"""One URI to one filesystem: `s3://bucket/key`, `file:///path` and plain paths all become a `Location`.

Credentials and the endpoint come from the usual AWS variables and never enter a URI, a config or a
log. A pickled `Location` carries only its URI: the process that receives it (a Ray worker on another
node) rebuilds the filesystem from its own environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyarrow import fs

from dpn_platform.config.errors import ConfigError

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 60.0
MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class S3Settings:
    """What the environment says about the S3 server; hashable, so that filesystems are built once per setting."""

    endpoint: str | None
    region: str
    access_key: str | None = field(repr=False)
    secret_key: str | None = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    @staticmethod
    def from_environment() -> S3Settings:
        """Reads the AWS variables; `AWS_ENDPOINT_URL_S3` wins over `AWS_ENDPOINT_URL`, as in the AWS tools."""
        env = os.environ.get
        return S3Settings(
            endpoint=env("AWS_ENDPOINT_URL_S3") or env("AWS_ENDPOINT_URL") or None,
            region=env("AWS_DEFAULT_REGION") or env("AWS_REGION") or "us-east-1",
            access_key=env("AWS_ACCESS_KEY_ID") or None,
            secret_key=env("AWS_SECRET_ACCESS_KEY") or None,
            session_token=env("AWS_SESSION_TOKEN") or None,
        )


@dataclass(frozen=True)
class Location:
    """A place in storage.

    Attributes:
        filesystem: the pyarrow filesystem that serves it.
        path: what that filesystem calls it (`bucket/key` on S3, an absolute path on disk).
        uri: the normalised URI, `s3://bucket/key` or `file:///absolute/path`.
    """

    filesystem: fs.FileSystem = field(repr=False, compare=False)
    path: str
    uri: str

    def __truediv__(self, child: str) -> Location:
        """The location of `child` (which may hold slashes) below this one."""
        tail = child.strip("/")
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{tail}", f"{self.uri.rstrip('/')}/{tail}")

    def __reduce__(self) -> tuple[Any, ...]:
        return open_uri, (self.uri,)

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of this machine."""
        return self.uri.startswith("file://")


def open_uri(uri: str | Path) -> Location:
    """Opens a place in storage; nothing is read, written or checked.

    Args:
        uri: `s3://bucket[/key]`, `file:///absolute/path` or a plain path (relative to the working folder).

    Raises:
        ConfigError: the scheme is unknown or the bucket is missing.
    """
    text = str(uri)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _local(text)
    if scheme == "file":
        if not rest.startswith("/"):
            raise ConfigError(f"{text}: a file:// URI needs an absolute path, as in file:///data/demo")
        return _local(rest)
    if scheme == "s3":
        path = "/".join(part for part in rest.split("/") if part)
        if not path:
            raise ConfigError(f"{text}: the bucket is missing, as in s3://bucket/folder")
        return Location(s3_filesystem(S3Settings.from_environment()), path, f"s3://{path}")
    raise ConfigError(f"{text}: unknown scheme '{scheme}'; allowed are s3://, file:// and plain paths")


def filesystem_of(uri: str | Path) -> fs.FileSystem:
    """The pyarrow filesystem that serves `uri`."""
    return open_uri(uri).filesystem


def join_uri(base: str | Path, *children: str) -> str:
    """`base` and `children` joined by single slashes, as a normalised URI."""
    location = open_uri(base)
    for child in children:
        location = location / child
    return location.uri


@lru_cache(maxsize=8)
def s3_filesystem(settings: S3Settings, allow_bucket_creation: bool = False) -> fs.S3FileSystem:
    """Builds the S3 filesystem; without keys in the environment the AWS default chain (instance role) applies."""
    options: dict[str, Any] = {}
    if settings.access_key and settings.secret_key:
        options.update(access_key=settings.access_key, secret_key=settings.secret_key)
        if settings.session_token:
            options["session_token"] = settings.session_token
    if settings.endpoint:
        scheme, separator, host = settings.endpoint.partition("://")
        if not separator or scheme not in ("http", "https"):
            raise ConfigError(f"AWS_ENDPOINT_URL={settings.endpoint}: an http:// or https:// address is needed")
        options.update(endpoint_override=host.rstrip("/"), scheme=scheme)
    return fs.S3FileSystem(
        region=settings.region,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
        allow_bucket_creation=allow_bucket_creation,
        allow_delayed_open=True,  # small objects: one PUT instead of a multipart upload of three requests
        **options,
    )


def _local(path: str) -> Location:
    absolute = os.path.abspath(os.path.expanduser(path))
    return Location(fs.LocalFileSystem(), absolute, f"file://{absolute}")
