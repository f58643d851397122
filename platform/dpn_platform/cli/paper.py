"""`dpn report paper`: the paper's tables audited, their FLOPs counted anew."""

from __future__ import annotations

from typing import Annotated

import typer

from dpn_platform.cli.console import print_json, print_text


def paper(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Print the paper's tables 1 to 3 as printed, corrected, and with FLOPs counted anew, in Markdown."""
    from dpn_platform.reports.comparison.audit_page import audit_document, audit_page

    if as_json:
        print_json(audit_document())
    else:
        print_text(audit_page())
