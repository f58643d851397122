"""Runs our entry scripts through Ray's job API: submit once, follow the log, tell how it ended."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ray._private.ray_constants import RAY_RUNTIME_ENV_IGNORE_GITIGNORE
from ray._private.runtime_env import packaging
from ray.job_submission import JobSubmissionClient

from dpn_platform.config.errors import DpnError
from dpn_platform.config.provenance import CODE_VERSION_VARIABLE, code_version

# What a job does not need; Ray refuses packages over 512 MiB.
EXCLUDES = (".git", ".venv", ".dpn", "tests", "outputs", "build", "dist", "*.egg-info", "**/__pycache__", ".*_cache")
# Relative to the working folder on the node: there `platform/` holds dpn_platform, the folder itself dpn_model.
JOB_PYTHONPATH = os.pathsep.join(("platform", "."))

_ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Job:
    """A submitted job.

    Attributes:
        submission_id: its name in Ray.
        address: of the dashboard that took it.
        status: Ray's word: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        is_new: False when the id had been submitted before; nothing was started then.
    """

    submission_id: str
    address: str
    status: str
    is_new: bool


def submit_job(address: str, entrypoint: str, *, root: Path, submission_id: str | None = None) -> Job:
    """Send the checkout to the cluster and start `entrypoint` in it.

    Args:
        address: of the Ray dashboard, `http(s)://HOST:PORT`.
        entrypoint: a shell command, relative to `root`.
        root: the checkout that travels.
        submission_id: an idempotency key: a job of that name is not started a second time.

    Raises:
        DpnError: the address cannot be used, nothing answers, or the job is refused.
    """
    client = _client(address)
    if submission_id is not None and (status := _status_of(client, submission_id)) is not None:
        return Job(submission_id, address, status, is_new=False)
    runtime_env = {
        "working_dir": str(root),
        "excludes": list(EXCLUDES),
        "env_vars": {"PYTHONPATH": JOB_PYTHONPATH, CODE_VERSION_VARIABLE: code_version()},
    }
    try:
        name = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env, submission_id=submission_id)
    except (RuntimeError, ValueError) as error:
        raise DpnError(f"Ray at {address} refused the job: {_last_line(error)}") from error
    return Job(name, address, client.get_job_status(name).value, is_new=True)


def why_not_sent(root: Path, file: Path) -> str | None:
    """Why Ray would leave a file of the checkout behind, in words; None where it travels."""
    excluded = packaging._get_excludes(root, list(EXCLUDES))  # Ray's own reading of both kinds of lists
    heeds_gitignore = os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE) != "1"
    ignored: list[Callable[[Path], bool]] = []
    for place in (*reversed([folder for folder in file.parents if folder.is_relative_to(root)]), file):
        if excluded(place):
            return f"{place.relative_to(root)} is left out of jobs"
        quiet = logging.getLogger("dpn_platform.quiet")
        ignored += packaging.get_excludes_from_ignore_files(place, heeds_gitignore, quiet)
        if any(matches(place) for matches in ignored):
            return f"a .gitignore or .rayignore names {place.relative_to(root)}"
    return None


def follow_job(job: Job, on_text: Callable[[str], None]) -> str:
    """Hand over the job's log as it grows; return how it ended.

    Raises:
        DpnError: the connection was lost; the job itself goes on.
    """
    client = _client(job.address)

    async def tail() -> None:
        async for text in client.tail_job_logs(job.submission_id):
            on_text(text)

    try:
        asyncio.run(tail())
        return client.get_job_status(job.submission_id).value
    except (RuntimeError, OSError) as error:
        raise DpnError(f"lost the log of {job.submission_id} ({_last_line(error)}); the job itself goes on") from error


def check_address(address: str) -> None:
    """Refuse what is no address, and what would carry a job, and code, over the network for anyone to send.

    Raises:
        DpnError: not `http(s)://HOST:PORT`, or plain http to another machine without a token.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DpnError(f"address '{address}': write http://HOST:PORT or https://HOST:PORT of the Ray dashboard")
    is_safe = parts.scheme == "https" or parts.hostname in _LOOPBACK_HOSTS
    if not is_safe and os.environ.get("RAY_AUTH_MODE") != "token":
        raise DpnError(
            f"address '{address}': refused without authentication on another machine; set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN_PATH, or use https"
        )


def _client(address: str) -> JobSubmissionClient:
    check_address(address)
    # Ray prefers this variable, and RAY_ADDRESS after it, to the address it is given.
    before = os.environ.get(_ADDRESS_VARIABLE)
    os.environ[_ADDRESS_VARIABLE] = address
    try:
        return JobSubmissionClient(address)
    except (OSError, RuntimeError, ValueError) as error:
        raise DpnError(f"no Ray job server at {address}: {_last_line(error)}") from error
    finally:
        if before is None:
            del os.environ[_ADDRESS_VARIABLE]
        else:
            os.environ[_ADDRESS_VARIABLE] = before


def _status_of(client: JobSubmissionClient, submission_id: str) -> str | None:
    known = {details.submission_id: details.status.value for details in client.list_jobs()}
    return known.get(submission_id)


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
