"""The boto3 client: for conditional writes and for plain words from the server, which pyarrow does not give."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from dpn_platform.storage.uri import CONNECT_TIMEOUT_S, MAX_ATTEMPTS, REQUEST_TIMEOUT_S, S3Settings


def s3_client(settings: S3Settings) -> Any:
    """A client for the server of the environment; without keys there the AWS default chain applies."""
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        # Given, because boto3's default session keeps the keys it saw first.
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        aws_session_token=settings.session_token,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=REQUEST_TIMEOUT_S,
            retries={"max_attempts": MAX_ATTEMPTS, "mode": "standard"},
            s3={"addressing_style": "path" if settings.endpoint else "auto"},
        ),
    )
