"""Whole objects by URI: read, write, list, copy folders. A reader never sees half of a written object.

S3 publishes an object when its upload completes; on disk the same is had from a temporary file and a
rename. What the storage refuses comes back as one `DpnError` line that names the URI.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import ClientError
from pyarrow import fs

from dpn_platform.config.errors import DpnError
from dpn_platform.storage.client import s3_client
from dpn_platform.storage.errors import DamagedObjectError, MissingObjectError, TruncatedBodyError, explained
from dpn_platform.storage.retry import with_retries
from dpn_platform.storage.uri import Location, S3Settings, open_uri, s3_filesystem

_PRECONDITION_FAILED = (409, 412)


def read_bytes(uri: str | Path) -> bytes:
    """The object's content.

    Raises:
        MissingObjectError: nothing is there.
        DpnError: the storage refused or could not be reached.
    """
    location = open_uri(uri)

    def read() -> bytes:
        with location.filesystem.open_input_file(location.path) as file:
            data = bytes(file.readall())
            if len(data) != file.size():
                raise TruncatedBodyError(f"{len(data)} of {file.size()} bytes arrived")
            return data

    return with_retries("read", location, read)


def write_bytes(uri: str | Path, data: bytes) -> None:
    """Writes the object, replacing an older one in one step.

    Raises:
        DpnError: the storage refused (no such bucket, no right) or could not be reached.
    """
    location = open_uri(uri)

    def write() -> None:
        if location.is_local:
            with _temporary_sibling(location.path, lambda file: file.write(data)) as temporary:
                os.replace(temporary, location.path)
            return
        # One write, then close: an error inside the block would otherwise publish a truncated object. Above 10 MiB
        # pyarrow uploads in parts; the object appears when the last of them is confirmed.
        with location.filesystem.open_output_stream(location.path) as stream:
            stream.write(data)

    with_retries("write", location, write)


def write_file(uri: str | Path, local: str | Path) -> None:
    """Writes an object with the content of a local file, which need not fit into memory, in one step.

    Raises:
        DpnError: as `write_bytes`.
    """
    location = open_uri(uri)

    def write() -> None:
        with open(local, "rb") as source:
            if location.is_local:
                with _temporary_sibling(location.path, lambda file: shutil.copyfileobj(source, file)) as temporary:
                    os.replace(temporary, location.path)
                return
            # By boto3: an upload in parts that fails half-way leaves no object, where closing pyarrow's stream would.
            bucket, _, key = location.path.partition("/")
            s3_client(S3Settings.from_environment()).upload_fileobj(source, bucket, key)

    with_retries("write", location, write)


def create_bytes(uri: str | Path, data: bytes) -> bool:
    """Writes the object only if none is there; of several writers exactly one succeeds.

    Returns:
        Whether this call wrote it; False when an object was there already.
    """
    location = open_uri(uri)
    with explained("create", location):
        if not location.is_local:
            return _put_if_absent(location, data)
        with _temporary_sibling(location.path, lambda file: file.write(data)) as temporary:
            try:
                os.link(temporary, location.path)
            except FileExistsError:
                return False
        return True


def exists(uri: str | Path) -> bool:
    """Whether an object or a folder is there."""
    location = open_uri(uri)
    return with_retries("look up", location, lambda: _is_there(location, location.path))


def list_files(uri: str | Path, suffix: str = "", *, recursive: bool = True) -> list[str]:
    """URIs of the objects in a folder that end in `suffix`, sorted; empty when the folder is absent."""
    return sorted(file for file in list_sizes(uri, recursive=recursive) if file.endswith(suffix))


def list_sizes(uri: str | Path, *, recursive: bool = True) -> dict[str, int]:
    """URI -> bytes of the objects in a folder; empty when the folder is absent."""
    location = open_uri(uri)
    selector = fs.FileSelector(location.path, recursive=recursive, allow_not_found=True)
    infos = with_retries("list", location, lambda: location.filesystem.get_file_info(selector))
    prefix = location.uri.removesuffix(location.path)
    return {prefix + info.path: int(info.size) for info in infos if info.is_file}


def list_folders(uri: str | Path) -> list[str]:
    """URIs of the folders directly inside a folder, sorted; empty when it is absent."""
    location = open_uri(uri)
    selector = fs.FileSelector(location.path, allow_not_found=True)
    infos = with_retries("list", location, lambda: location.filesystem.get_file_info(selector))
    prefix = location.uri.removesuffix(location.path)
    return sorted(prefix + info.path for info in infos if info.type == fs.FileType.Directory)


def delete_folder(uri: str | Path) -> None:
    """Removes every object below `uri`; nothing to do when there is none."""
    location = open_uri(uri)

    def delete() -> None:
        if _is_there(location, location.path):
            location.filesystem.delete_dir(location.path)

    with_retries("delete", location, delete)


def delete_object(uri: str | Path) -> None:
    """Removes one object; nothing to do when there is none."""
    location = open_uri(uri)

    def delete() -> None:
        if _is_there(location, location.path):
            location.filesystem.delete_file(location.path)

    with_retries("delete", location, delete)


def read_json(uri: str | Path) -> Any:
    """The object parsed as JSON.

    Raises:
        DamagedObjectError: the object is not JSON.
        DpnError: as `read_bytes`.
    """
    data = read_bytes(uri)
    try:
        return json.loads(data)
    except ValueError as error:
        raise DamagedObjectError(f"{uri}: not valid JSON ({error})") from error


def write_json(uri: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON with sorted keys, so that equal values give equal bytes."""
    write_bytes(uri, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


def upload_folder(local: str | Path, uri: str | Path) -> None:
    """Copies every file of a local folder below `uri`, in parallel. Not atomic as a whole: write a marker last."""
    folder = Path(local)
    if not folder.is_dir():
        raise DpnError(f"{folder}: no such folder to upload")
    _copy(open_uri(folder), open_uri(uri))


def download_folder(uri: str | Path, local: str | Path) -> None:
    """Copies every object below `uri` into a local folder, which is made if needed.

    Raises:
        MissingObjectError: there is nothing below `uri`.
    """
    if not list_files(uri):
        raise MissingObjectError(f"{uri}: nothing there to download")
    _copy(open_uri(uri), open_uri(local))


def ensure_bucket(uri: str | Path) -> None:
    """Makes the bucket of an `s3://` URI (or the folder of a local one) unless it is there."""
    location = open_uri(uri)
    with explained("make", location):
        if location.is_local:
            os.makedirs(location.path, exist_ok=True)
            return
        bucket = _bucket(location)
        if not _is_there(location, bucket):
            s3_filesystem(S3Settings.from_environment(), allow_bucket_creation=True).create_dir(bucket)


def require_bucket(uri: str | Path) -> None:
    """Refuses a mistyped bucket before work starts (some servers would make it on the first write).

    Raises:
        DpnError: the bucket of an `s3://` URI does not exist.
    """
    location = open_uri(uri)
    if not location.is_local and not with_retries("look up", location, lambda: _is_there(location, _bucket(location))):
        raise DpnError(f"{location.uri}: there is no bucket '{_bucket(location)}'")


def _bucket(location: Location) -> str:
    return location.path.partition("/")[0]


def _is_there(location: Location, path: str) -> bool:
    return bool(location.filesystem.get_file_info(path).type != fs.FileType.NotFound)


def _copy(source: Location, target: Location) -> None:
    def copy() -> None:
        if target.is_local:
            os.makedirs(target.path, exist_ok=True)
        fs.copy_files(
            source.path,
            target.path,
            source_filesystem=source.filesystem,
            destination_filesystem=target.filesystem,
        )

    with_retries("copy", source, copy)


def _put_if_absent(location: Location, data: bytes) -> bool:
    """By boto3: pyarrow cannot send If-None-Match."""
    client = s3_client(S3Settings.from_environment())
    bucket, _, key = location.path.partition("/")
    try:
        client.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
    except ClientError as error:
        response = error.response["ResponseMetadata"]
        if response["HTTPStatusCode"] not in _PRECONDITION_FAILED:
            raise
        # The client tried again after an answer that was lost: what is there may be our own.
        return bool(response.get("RetryAttempts")) and read_bytes(location.uri) == data
    return True


@contextmanager
def _temporary_sibling(path: str, fill: Callable[[IO[bytes]], object]) -> Iterator[str]:
    """A file that `fill` has written beside `path` (same disk, so that rename and link are atomic); gone afterwards."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
        os.chmod(temporary, 0o644)
        yield temporary
    finally:
        Path(temporary).unlink(missing_ok=True)
