"""A study's archive as a file: zip or tar.gz, with a manifest that knows the digest of every file in it.

Nothing that was read from such a file is believed before its paths and its digests were looked at.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dpn_platform.config.errors import DpnError

MANIFEST = "manifest.json"
FORMAT, VERSION = "dpn-study", 1
SUFFIXES = (".zip", ".tar.gz", ".tgz")
_BLOCK = 1 << 20
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


def is_zip(file: Path) -> bool:
    """Which of the two kinds a file's name says.

    Raises:
        DpnError: neither.
    """
    if not file.name.endswith(SUFFIXES):
        raise DpnError(f"{file}: the name of a study's archive ends in {', '.join(SUFFIXES)}")
    return file.name.endswith(".zip")


class BundleWriter:
    """Context manager: writes beside the file and puts it in place when all is well.

    Args:
        file: to write.
        force: replace what is there.

    Raises:
        DpnError: something is there, or the folder cannot be written.
    """

    def __init__(self, file: Path, *, force: bool = False) -> None:
        self._zip = is_zip(file)
        self._file, self._force = file, force
        self.files: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> BundleWriter:
        if self._file.exists() and not self._force:
            raise self._taken()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            handle, self._temporary = tempfile.mkstemp(dir=self._file.parent, prefix=".", suffix=".tmp")
        except OSError as error:
            raise DpnError(f"{self._file}: cannot be written: {error.strerror or error}") from None
        self._raw = os.fdopen(handle, "wb")
        self._archive: zipfile.ZipFile | tarfile.TarFile = (
            zipfile.ZipFile(self._raw, "w", zipfile.ZIP_DEFLATED)
            if self._zip
            else tarfile.open(fileobj=self._raw, mode="w:gz")
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._archive.close()
            self._raw.close()
            if kind is None:
                self._put_in_place()
        except OSError as failure:
            raise DpnError(f"{self._file}: cannot be written: {failure.strerror or failure}") from None
        finally:
            Path(self._temporary).unlink(missing_ok=True)

    def add(self, name: str, content: bytes | Path) -> None:
        """A file of the archive; of a path, what lies there."""
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
            reader = _Digesting(source)
            if isinstance(self._archive, zipfile.ZipFile):
                with self._archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as target:
                    while block := reader.read(_BLOCK):
                        target.write(block)
            else:
                info = tarfile.TarInfo(name)
                info.size = size
                self._archive.addfile(info, reader)
        self.files[name] = {"bytes": size, "sha256": reader.digest.hexdigest()}

    def add_manifest(self, about: dict[str, Any]) -> dict[str, Any]:
        """The manifest, last: what the archive is, and every file in it."""
        manifest = {"format": FORMAT, "version": VERSION, **about, "files": dict(self.files)}
        self.add(MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())
        return manifest

    def _put_in_place(self) -> None:
        os.chmod(self._temporary, 0o644)
        if self._force:
            os.replace(self._temporary, self._file)
            return
        try:
            os.link(self._temporary, self._file)
        except FileExistsError:
            raise self._taken() from None

    def _taken(self) -> DpnError:
        return DpnError(f"{self._file} exists; name another file, or add --force to replace it")


class _Digesting:
    """A file that is digested while it is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self.digest = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        self.digest.update(block)
        return block


def verified_manifest(file: Path) -> dict[str, Any]:
    """The manifest of an archive whose every file was read and compared with it.

    Raises:
        DpnError: no archive of a study, of another version, damaged, or with a path that leaves its folder.
    """
    with _explained(file):
        found, manifest = _digested(file)
    if manifest is None:
        raise DpnError(f"{file}: holds no {MANIFEST}; it is not what `dpn study export` writes")
    expected: dict[str, Any] = manifest["files"]
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise DpnError(f"{file}: {name} is missing")
        if name not in expected:
            raise DpnError(f"{file}: {name} is not in its manifest")
        if found[name] != expected[name]:
            raise DpnError(f"{file}: {name} is not what was exported, its digest differs")
    return manifest


def _digested(file: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """Size and digest of every file, and the manifest, where there is one."""
    found: dict[str, dict[str, Any]] = {}
    manifest = None
    for name, source in members(file):
        _check_path(file, name)
        if name in found:
            raise DpnError(f"{file}: holds {name} twice")
        if name == MANIFEST:
            manifest = _parsed(file, source.read())
            continue
        reader, size = _Digesting(source), 0
        while block := reader.read(_BLOCK):
            size += len(block)
        found[name] = {"bytes": size, "sha256": reader.digest.hexdigest()}
    return found, manifest


def members(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Every file of an archive, in order: its path and a reader, to be used before the next one.

    Raises:
        DpnError: not an archive, or one with links or devices in it.
    """
    zipped = is_zip(file)
    if not file.is_file():
        raise DpnError(f"{file}: no such file")
    with _explained(file):
        if zipped:
            with zipfile.ZipFile(file) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        with archive.open(info) as source:
                            yield info.filename, source
            return
        with tarfile.open(file, "r:gz") as tar:
            for member in tar:
                if member.isdir():
                    continue
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise DpnError(f"{file}: {member.name} is no plain file")
                yield member.name, content


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise DpnError(f"{file}: cannot be read as an archive: {' '.join(str(error).split())}") from None


def _check_path(file: Path, name: str) -> None:
    parts = name.split("/")
    if "\\" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise DpnError(f"{file}: the path '{name}' leaves the folder it is put into; nothing was imported")


def _parsed(file: Path, data: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
        is_ours = manifest["format"] == FORMAT and isinstance(manifest["files"], dict)
        version = manifest["version"]
        texts = [manifest["study"], manifest["runs_uri"], *manifest["trials"], *manifest["checkpoints_left_out"]]
        is_ours &= all(isinstance(text, str) for text in (*texts, *manifest["reused"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        is_ours, version, manifest = False, None, {}
    if version not in (None, VERSION):
        raise DpnError(f"{file}: an archive of version {version}, this version reads {VERSION}")
    if not is_ours:
        raise DpnError(f"{file}: {MANIFEST} is not that of a study; `dpn study export` writes it")
    return dict(manifest)
