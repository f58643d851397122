"""Which study a verb of `dpn study` means, and the store it lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dpn_platform.config.schema import StorageConfig

if TYPE_CHECKING:
    from dpn_platform.sweeps.ledger import Ledger

DEFAULT_RUNS: str = StorageConfig().runs_uri
Study = Annotated[
    str, typer.Argument(metavar="STUDY", help="Name of a study, its beginning, 'latest', or <runs>/studies/STUDY.")
]
RunsUri = Annotated[str, typer.Option("--runs-uri", help="Where runs and studies are kept.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def open_store(*addresses: str) -> None:
    """Connects S3 where an address is on it and it is not the user's own, as `dpn report` does."""
    from dpn_platform.services import connect, external_services

    if any(address.startswith("s3://") for address in addresses) and "s3" not in external_services():
        connect(needs=["s3"])


def locate(study: str, runs_uri: str, *, exactly: bool = False) -> Ledger:
    """The ledger of the study that was named, its store connected; `exactly`: no beginning of a name will do.

    Raises:
        DpnError: no such study, or several.
    """
    open_store(study if "/" in study else runs_uri)
    from dpn_platform.sweeps.catalogue import find_study

    return find_study(runs_uri, study, exactly=exactly)
