"""What is tried again and what is not; what a refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from dpn_platform.config.errors import DpnError
from dpn_platform.storage import errors, open_uri, retry, with_retries


def client_error(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them; and an S3 server that nobody asks."""
    made: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", made.append)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    return made


class Failing:
    """Fails so many times, then answers."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


@pytest.mark.parametrize(
    "error",
    [
        OSError("AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate."),
        OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
        OSError("AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 56, Failure when receiving data"),
        OSError("When reading: curlCode: 28, Timeout was reached"),
        errors.TruncatedBodyError("5 of 10 bytes arrived"),
        client_error("SlowDown", 503),
        client_error("InternalError", 500),
    ],
)
def test_trouble_that_passes_is_tried_again(error: Exception, pauses: list[float]) -> None:
    operation = Failing(retry.ATTEMPTS - 1, error)

    assert with_retries("read", open_uri("s3://dpn/x"), operation) == "done"
    assert len(pauses) == retry.ATTEMPTS - 1
    for number, pause in enumerate(pauses):
        assert 0.5 <= pause / (retry.FIRST_PAUSE_S * 2**number) <= 1.5


def test_trouble_that_stays_is_one_line(pauses: list[float]) -> None:
    operation = Failing(99, OSError("AWS Error SLOW_DOWN\nduring GetObject"))

    with pytest.raises(
        DpnError, match=r"cannot read s3://dpn/x \(S3 at http://127.0.0.1:9\): AWS Error SLOW_DOWN during"
    ):
        with_retries("read", open_uri("s3://dpn/x"), operation)
    assert operation.calls == retry.ATTEMPTS


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDenied", "these credentials have no permission for it"),
        ("InvalidAccessKeyId", "does not accept the credentials; check AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "does not accept the credentials; check AWS_ACCESS_KEY_ID"),
        ("RequestTimeTooSkewed", "clock differs too much from the server's; set the clock"),
        ("NoSuchBucket", "there is no bucket 'dpn'"),
        ("ExpiredToken", "AWS_SESSION_TOKEN has expired"),
    ],
)
def test_refusals_are_not_repeated_and_say_what_to_do(
    code: str, words: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = Failing(99, client_error(code))
    with pytest.raises(DpnError, match=words):
        with_retries("write", open_uri("s3://dpn/x"), operation)
    assert (operation.calls, pauses) == (1, [])

    # pyarrow's HEAD requests learn no more than "forbidden": the reason is asked for.
    monkeypatch.setattr(errors, "_code_of_listing", lambda location: code)
    head = OSError("When reading information for key 'x': AWS Error ACCESS_DENIED during HeadObject: No response body.")
    with pytest.raises(DpnError, match=words):
        with_retries("read", open_uri("s3://dpn/x"), Failing(99, head))


def test_disks_are_not_tried_again(tmp_path: Path, pauses: list[float]) -> None:
    operation = Failing(1, OSError(28, "No space left on device, timed out"))
    with pytest.raises(DpnError, match="No space left"):
        with_retries("write", open_uri(tmp_path / "x"), operation)
    assert pauses == []


@pytest.mark.parametrize(
    "error",
    [
        OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7, Couldn't connect to server"),
        OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 6, Couldn't resolve host name"),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:9"),
    ],
)
def test_a_store_that_is_away_is_waited_for_only_with_patience(
    error: Exception, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DpnError):
        with_retries("read", open_uri("s3://dpn/x"), Failing(retry.ATTEMPTS, error))

    monkeypatch.setenv(retry.PATIENCE_VARIABLE, "60")
    assert with_retries("read", open_uri("s3://dpn/x"), Failing(40, error)) == "done"
    assert max(pauses) <= 1.5 * retry.LONGEST_PAUSE_S


def test_patience_ends(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(retry.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setenv(retry.PATIENCE_VARIABLE, "95")
    operation = Failing(1000, OSError("curlCode: 28, Timeout was reached"))

    with pytest.raises(DpnError, match="cannot read s3://dpn/x"):
        with_retries("read", open_uri("s3://dpn/x"), operation)
    assert operation.calls == retry.ATTEMPTS + 9  # the clock is asked from the fourth attempt on: 10 s, 20 s, ... 100 s
