"""What went wrong with storage, in one line that names the URI and what to do; and whether trying again may help."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from dpn_platform.config.errors import DpnError
from dpn_platform.storage.client import s3_client
from dpn_platform.storage.uri import Location, S3Settings

#: throttling, 5xx, time-outs, connections that break, bodies that end early; not: nobody listens, no such name
_TRANSIENT = re.compile(
    r"SLOW_DOWN|SlowDown|SERVICE_UNAVAILABLE|ServiceUnavailable|THROTTLING|Throttling|TooManyRequests|INTERNAL_FAILURE"
    r"|InternalError|REQUEST_TIMEOUT|RequestTimeout|NETWORK_CONNECTION|HTTP status 5\d\d|status code: 5\d\d|\(50\d\)"
    r"|curlCode: (?!6,|7,)|[Tt]imed? ?out|[Cc]onnection (was )?(reset|closed|broken)|IncompleteRead|truncated"
)
#: nobody listens, no such name: a mistyped address, or a store that is away for a while
_UNREACHABLE = re.compile(r"curlCode: (6|7),|Could not connect to the endpoint|[Cc]onnection refused|Couldn't connect")
_REFUSED = re.compile(r"ACCESS_DENIED|HTTP status 403|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|SKEWED")

_WRITING = ("write", "create", "make")
_CREDENTIALS = "the server does not accept the credentials; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_IN_WORDS = {
    "NoSuchBucket": "there is no bucket '{bucket}'",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "AccessDenied": "these credentials have no permission for it",
    "ExpiredToken": "AWS_SESSION_TOKEN has expired",
    "InvalidToken": "AWS_SESSION_TOKEN is not valid",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the server's; set the clock",
}


class MissingObjectError(DpnError):
    """Nothing is at the URI (as opposed to: it could not be reached)."""


class DamagedObjectError(DpnError):
    """The object is there, and is not what it should be."""


class TruncatedBodyError(OSError):
    """Fewer bytes arrived than the object has."""


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed in a moment."""
    return isinstance(error, TruncatedBodyError) or _TRANSIENT.search(str(error)) is not None


def is_unreachable(error: Exception) -> bool:
    """Whether no server was met at all."""
    return _UNREACHABLE.search(str(error)) is not None


@contextmanager
def explained(action: str, location: Location) -> Iterator[None]:
    """Turns what the libraries raise into one line with the URI."""
    try:
        yield
    except FileNotFoundError as error:
        if not location.is_local and _code_of_listing(location) == "NoSuchBucket":
            raise MissingObjectError(_line(action, location, _words("NoSuchBucket", location))) from error
        if location.is_local and action in _WRITING:
            raise DpnError(_line(action, location, f"its folder cannot be made ({error.strerror})")) from error
        raise MissingObjectError(f"cannot {action} {location.uri}: nothing is there") from error
    except pa.ArrowInvalid as error:
        raise DpnError(_line(action, location, f"it is damaged ({_short(error)})")) from error
    except (OSError, BotoCoreError, ClientError) as error:
        if location.is_local and action == "read" and os.path.isdir(location.path):
            raise MissingObjectError(f"cannot read {location.uri}: it is a folder") from error
        raise DpnError(_line(action, location, _reason(error, location))) from error


def _line(action: str, location: Location, reason: str) -> str:
    where = "" if location.is_local else f" (S3 at {S3Settings.from_environment().endpoint or 'AWS'})"
    return f"cannot {action} {location.uri}{where}: {reason}"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _reason(error: Exception, location: Location) -> str:
    text = _short(error)
    if location.is_local:
        return text
    if _UNREACHABLE.search(text):
        return "nobody answers at that address; check AWS_ENDPOINT_URL, and whether the server is up (`dpn status`)"
    code = str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else None
    if code is None and "NO_SUCH_BUCKET" in text:
        code = "NoSuchBucket"
    if code is None and _REFUSED.search(text):
        # The answer to a HEAD request has no body: which refusal it was shows in that of a listing.
        code = _code_of_listing(location) or "AccessDenied"
    return _words(code, location) or text


def _words(code: str | None, location: Location) -> str:
    return _IN_WORDS.get(code or "", "").format(bucket=location.path.partition("/")[0])


def _code_of_listing(location: Location) -> str | None:
    """S3's code for the refusal to list the location; None when it lists, or cannot be reached."""
    bucket, _, key = location.path.partition("/")
    try:
        s3_client(S3Settings.from_environment()).list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    except ClientError as error:
        return str(error.response.get("Error", {}).get("Code"))
    except BotoCoreError:
        return None
    return None
