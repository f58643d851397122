"""Storage: one URI (`s3://`, `file://` or a plain path) in, a filesystem and whole-object operations out."""

from dpn_platform.storage.errors import DamagedObjectError, MissingObjectError
from dpn_platform.storage.objects import (
    create_bytes,
    delete_folder,
    delete_object,
    download_folder,
    ensure_bucket,
    exists,
    list_files,
    list_folders,
    list_sizes,
    read_bytes,
    read_json,
    require_bucket,
    upload_folder,
    write_bytes,
    write_file,
    write_json,
)
from dpn_platform.storage.retry import PATIENCE_VARIABLE, with_retries
from dpn_platform.storage.together import together
from dpn_platform.storage.uri import Location, filesystem_of, join_uri, open_uri

__all__ = [
    "PATIENCE_VARIABLE",
    "DamagedObjectError",
    "Location",
    "MissingObjectError",
    "create_bytes",
    "delete_folder",
    "delete_object",
    "download_folder",
    "ensure_bucket",
    "exists",
    "filesystem_of",
    "join_uri",
    "list_files",
    "list_folders",
    "list_sizes",
    "open_uri",
    "read_bytes",
    "read_json",
    "require_bucket",
    "together",
    "upload_folder",
    "with_retries",
    "write_bytes",
    "write_file",
    "write_json",
]
