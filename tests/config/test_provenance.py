"""Provenance: what it says, and what it must never say."""

import json
import subprocess

import pytest

from dpn_platform.config import provenance
from dpn_platform.config.redact import without_credentials


def test_manifest_names_code_packages_and_machine():
    manifest = provenance.manifest_of_versions()
    assert manifest["packages"]["torch"]
    assert manifest["python"].startswith("3.")
    assert set(manifest) == {"git", "packages", "python", "platform", "command"}
    json.dumps(manifest)


def test_manifest_holds_no_secret(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setattr("sys.argv", ["dpn", "train", "tracking.uri=http://me:hunter2@host", "--s3-secret=hunter2"])
    text = json.dumps(provenance.manifest_of_versions())
    assert "hunter2" not in text
    assert "http://***@host" in text


def test_checkout_version_tells_sha_and_dirt(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-C", tmp_path, "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
            check=True,
            capture_output=True,
        )

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    clean = provenance._checkout_version(tmp_path)
    assert clean is not None
    assert len(clean["sha"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "file").write_text("b")
    assert provenance._checkout_version(tmp_path) == {**clean, "dirty": True}


def test_code_outside_a_checkout_has_no_version(tmp_path):
    assert provenance._checkout_version(tmp_path) is None


@pytest.mark.parametrize(("given", "dirty"), [("abc123", False), ("abc123-dirty", True)])
def test_submitted_job_reports_the_version_it_was_given(monkeypatch, given, dirty):
    monkeypatch.setenv(provenance.CODE_VERSION_VARIABLE, given)
    assert provenance.manifest_of_versions()["git"] == {"sha": "abc123", "dirty": dirty}
    assert provenance.code_version() == given


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://me:pw@host/x", "http://***@host/x"),
        ("s3://key:se/cret", "s3://key:se/cret"),
        ("AWS_SECRET_ACCESS_KEY=abc rest", "AWS_SECRET_ACCESS_KEY=*** rest"),
        ("--token=abc", "--token=***"),
        ("train.steps=3", "train.steps=3"),
        ("eval.max_new_tokens=4", "eval.max_new_tokens=4"),
    ],
)
def test_without_credentials(text, masked):
    assert without_credentials(text) == masked
