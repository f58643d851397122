"""Jobs through Ray's API: the checkout travels, credentials do not, an id runs once, failures are told."""

import json
import uuid

import pytest
from ray.job_submission import JobSubmissionClient

from dpn_platform.config.errors import DpnError
from dpn_platform.services.job_client import follow_job, submit_job

pytestmark = [pytest.mark.services, pytest.mark.ray]

WHERE = "import json, dpn_platform, dpn_model.packing; print(json.dumps([dpn_platform.__file__, dpn_model.__file__]))"


def followed(job):
    texts = []
    return follow_job(job, texts.append), "".join(texts)


@pytest.fixture
def checkout(tmp_path, repo_root):
    """A small copy of the checkout: the packages alone."""
    for package in ("platform/dpn_platform", "dpn_model"):
        for source in (repo_root / package).rglob("*.py"):
            target = tmp_path / source.relative_to(repo_root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return tmp_path


def test_job_runs_the_code_that_travelled_once_and_without_credentials(services, checkout):
    name = f"where-{uuid.uuid4().hex[:8]}"
    command = f"python -c '{WHERE}'"
    job = submit_job(services.ray_dashboard_url, command, root=checkout, submission_id=name)
    status, log = followed(job)
    assert (job.is_new, status) == (True, "SUCCEEDED"), log
    paths = json.loads(log.strip().splitlines()[-1])
    assert all("working_dir_files" in path for path in paths), paths

    again = submit_job(services.ray_dashboard_url, "python -c 'raise SystemExit(1)'", root=checkout, submission_id=name)
    assert (again.is_new, again.status) == (False, "SUCCEEDED")

    details = JobSubmissionClient(services.ray_dashboard_url).get_job_info(name)
    shown = details.model_dump_json() if hasattr(details, "model_dump_json") else details.json()
    assert services.s3_secret_key not in shown
    assert services.s3_access_key not in shown


def test_failed_job_is_told_as_failed(services, checkout):
    job = submit_job(services.ray_dashboard_url, "python -c 'raise SystemExit(3)'", root=checkout)
    assert followed(job)[0] == "FAILED"


def test_nothing_at_the_address_is_one_clear_line(services, tmp_path):
    with pytest.raises(DpnError, match=r"no Ray job server at http://127\.0\.0\.1:1"):
        submit_job("http://127.0.0.1:1", "true", root=tmp_path)


def test_verb_refuses_before_anything_travels(services, run_dpn):
    done = run_dpn("submit", "train", "jobs/configs/demo-train.yaml", "train.stpes=3", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'train.steps'?" in done.stderr
