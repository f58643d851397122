"""URIs become locations; credentials stay out of them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pyarrow import fs

from dpn_platform.config.errors import ConfigError
from dpn_platform.storage import filesystem_of, join_uri, open_uri
from dpn_platform.storage.uri import S3Settings

SECRET = "do-not-show-me"


@pytest.fixture
def s3_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An S3 server that nobody talks to."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


def test_plain_path_and_file_uri_are_the_same_place(tmp_path: Path) -> None:
    plain, uri = open_uri(tmp_path / "a b"), open_uri(f"file://{tmp_path}/a b")

    assert plain == uri
    assert plain.uri == f"file://{tmp_path}/a b"
    assert plain.is_local


def test_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert open_uri("x/../y").path == str(tmp_path / "y")


def test_s3_uri_is_normalised(s3_environment: None) -> None:
    location = open_uri("s3://bucket//folder/")

    assert (location.path, location.uri) == ("bucket/folder", "s3://bucket/folder")
    assert isinstance(filesystem_of("s3://bucket"), fs.S3FileSystem)
    assert (location / "/a/b").uri == join_uri("s3://bucket", "folder", "a", "b")


def test_odd_characters_survive(s3_environment: None) -> None:
    assert open_uri("s3://b/what?#1 %20.jpg").path == "b/what?#1 %20.jpg"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("gs://bucket/x", "unknown scheme 'gs'; allowed are s3://, file:// and plain paths"),
        ("s3://", "the bucket is missing"),
        ("file://relative/path", "needs an absolute path"),
    ],
)
def test_bad_uri_is_refused_in_one_line(uri: str, message: str, s3_environment: None) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        open_uri(uri)
    assert uri in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_endpoint_without_scheme_is_refused(s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:8333")

    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        open_uri("s3://bucket")


def test_special_endpoint_wins(s3_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:10")

    assert S3Settings.from_environment().endpoint == "http://127.0.0.1:10"


def test_secret_is_neither_printed_nor_pickled(s3_environment: None) -> None:
    location = open_uri("s3://bucket/x")

    assert SECRET not in repr(location) + repr(S3Settings.from_environment())
    assert SECRET.encode() not in pickle.dumps(location)
    assert pickle.loads(pickle.dumps(location)) == location
