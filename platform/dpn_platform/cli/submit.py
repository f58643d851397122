"""`dpn submit`: the same job through Ray's job API."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from dpn_platform.cli.console import clean_stdout, note, print_facts, print_json, progress
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import load_config
from dpn_platform.config.provenance import repository_root
from dpn_platform.config.recipe_file import recipe_files

VERBS = ("train", "sweep")


def register(app: typer.Typer) -> None:
    """Adds `dpn submit`."""
    app.command("submit")(submit)


def submit(
    verb: Annotated[str, typer.Argument(help=f"What to run: {' or '.join(VERBS)}.")],
    config: Annotated[Path, typer.Argument(help="Experiment YAML inside the checkout: it travels with the code.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="key=value overrides.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray dashboard, http://HOST:PORT. Default: the embedded services.")
    ] = None,
    submission_id: Annotated[
        str | None, typer.Option(help="Idempotency key: a job of this name is not started twice.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the study of that name.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Print the job's log; exit code 0 only on success.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Run `jobs/VERB.py` on a cluster. The cluster's nodes hold the credentials; none travel with the job."""
    root = repository_root()
    entrypoint = build_entrypoint(verb, config, arguments or [], root, resume=resume)
    address = _connect(address)
    with clean_stdout(as_json):
        with progress("loading Ray"):
            from dpn_platform.services.job_client import follow_job, submit_job
        require_sent(verb, config, arguments or [], root)
        with progress(f"sending {root} to {address}"):
            job = submit_job(address, entrypoint, root=root, submission_id=submission_id)
        if not job.is_new:
            note(f"{job.submission_id} was submitted before: nothing started")
        status = follow_job(job, _print_log) if follow else job.status
    document = {
        "submission_id": job.submission_id,
        "address": address,
        "entrypoint": entrypoint,
        "status": status,
        "is_new": job.is_new,
    }
    if as_json:
        print_json(document)
    else:
        print_facts("job", document)
    if follow and status != "SUCCEEDED":
        raise typer.Exit(1)


def build_entrypoint(verb: str, config: Path, overrides: list[str], root: Path, *, resume: bool) -> str:
    """The shell command that runs the verb in a copy of the checkout; everything wrong is said before it leaves.

    Raises:
        DpnError: an unknown verb, a config that does not load or lies outside the checkout, no checkout.
    """
    if verb not in VERBS:
        raise DpnError(f"verb '{verb}' cannot be submitted; allowed: {', '.join(VERBS)}")
    experiment = load_config(config, overrides)
    if verb == "sweep" and experiment.sweep is None:
        raise DpnError(f"{config}: has no section 'sweep'; submit it as train, or add the section")
    if not (root / "jobs" / f"{verb}.py").is_file():
        raise DpnError(f"{root} is not a checkout: jobs/{verb}.py must travel with the job")
    path = config.resolve()
    if not path.is_relative_to(root):
        raise DpnError(f"{config}: lies outside {root}; put it inside, it travels with the code")
    command = ["python", f"jobs/{verb}.py", "--config", str(path.relative_to(root)), *overrides]
    return shlex.join([*command, "--resume"] if resume else command)


def require_sent(verb: str, config: Path, overrides: list[str], root: Path) -> None:
    """Everything that the job reads from the checkout must travel: Ray leaves out what `.gitignore` names, for one.

    Raises:
        DpnError: a file that would stay behind.
    """
    from dpn_platform.services.job_client import why_not_sent

    base = (root / load_config(config, overrides).model.base).resolve()
    is_of_checkout = base.exists() and base.is_relative_to(root)  # another place is the nodes' own to have
    read = [*recipe_files(config.resolve()), root / "jobs" / f"{verb}.py", *([base] if is_of_checkout else [])]
    for file in read:
        if reason := why_not_sent(root, file):
            raise DpnError(f"{file.relative_to(root)}: would not travel with the job ({reason}); put it elsewhere")


def _connect(address: str | None) -> str:
    """The dashboard's address; for the embedded cluster this process also gets its token."""
    from dpn_platform.services import connect, endpoints

    given = (address or os.environ.get("RAY_API_SERVER_ADDRESS", "")).rstrip("/")
    embedded = endpoints(needs=["ray"])
    if given and (embedded is None or embedded.ray_dashboard_url != given):
        return given
    return connect(needs=["ray"]).ray_dashboard_url


def _print_log(text: str) -> None:
    print(text, end="", flush=True)
