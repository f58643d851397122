"""A study as one file and out of it again: nothing lost, nothing believed unseen, nothing overwritten."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.reports.study.changes import changes_between
from dpn_platform.reports.study.source import points_of_trials
from dpn_platform.storage import list_sizes, read_bytes, read_json, write_bytes, write_json
from dpn_platform.sweeps import importing
from dpn_platform.sweeps.bundle import verified_manifest
from dpn_platform.sweeps.catalogue import read_study
from dpn_platform.sweeps.export import export_study
from dpn_platform.sweeps.importing import import_study
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.trials import searched_trial
from tests.sweeps.written_studies import small_trials, study_config, write_study

OPEN = [searched_trial(9, "dpn", {}).become("failed", reason="out of memory")]


@pytest.fixture
def runs(tmp_path):
    return f"file://{tmp_path}/runs"


@pytest.fixture
def there(tmp_path):
    return f"file://{tmp_path}/there"


def rebuilt(file: Path, change) -> Path:
    """The archive with other contents; `change` gets the files and gives those to write."""
    with zipfile.ZipFile(file) as archive:
        contents = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in change(contents).items():
            archive.writestr(name, data)
    return file


def with_file(contents: dict[str, bytes], name: str, data: bytes = b"x") -> dict[str, bytes]:
    """The contents with one more file, of which the manifest knows."""
    manifest = json.loads(contents["manifest.json"])
    manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {**contents, name: data, "manifest.json": json.dumps(manifest).encode()}


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("with_points", [True, False])
def test_everything_is_readable_elsewhere_when_the_first_store_is_gone(runs, there, tmp_path, suffix, with_points):
    made = write_study(runs, "s", small_trials(), unfinished=OPEN, with_points=with_points)
    before = read_study(made)
    left = export_study(made, tmp_path / f"s{suffix}").left_out
    done = import_study(tmp_path / f"s{suffix}", there, "moved")
    assert done.absent == left
    assert len(left) == 10, "two folders of weights for each trial"
    shutil.rmtree(runs.removeprefix("file://"))

    after = read_study(done.ledger)
    assert after.faults == ()
    assert (after.name, after.header.created, after.state) == ("moved", before.header.created, before.state)
    assert after.settings["storage"]["runs_uri"] == there
    shown = [point.model_dump(exclude={"outcomes_uri", "run_id"}) for point in after.points]
    assert shown == [point.model_dump(exclude={"outcomes_uri", "run_id"}) for point in before.points]
    assert {trial.run_id for trial in after.trials} == {None}, "the former tracker's runs are not here"
    for point in after.points:
        assert point.outcomes_uri == f"{there}/moved-{point.name}/evaluation/outcomes.parquet"
    assert points_of_trials(done.ledger.uri) == after.points
    other = read_study(write_study(there, "other", small_trials(gain=0.1)))
    moves, front = changes_between(after.points, other.points, "swiglu")
    assert {move.unpaired for move in moves} == {None}, "outcome tables are found"
    assert front.change is not None
    assert done.ledger.open(study_config(there)).name == "moved", "and it can be resumed"
    assert read_bytes(f"{there}/moved-dense/metrics.jsonl")
    assert not any("/lease/" in uri or "/shards/" in uri for uri in list_sizes(there) if "other" not in uri)


def test_checkpoints_travel_when_they_are_asked_to(runs, there, tmp_path):
    made = write_study(runs, "s", small_trials())
    assert export_study(made, tmp_path / "s.tgz", checkpoints=True).left_out == []
    done = import_study(tmp_path / "s.tgz", there)
    assert done.absent == []
    shutil.rmtree(runs.removeprefix("file://"))
    assert read_bytes(f"{there}/s-dpn-01/export/model.safetensors") == b"dpn-01"
    assert read_bytes(f"{there}/s-dpn-01/step_00000004/engine/weights") == b"w"
    assert read_study(done.ledger).points[0].checkpoint_uri == f"{there}/s-dense/export"
    assert read_json(f"{there}/s-dense/outcome.json")["export_uri"] == f"{there}/s-dense/export"


def test_weights_left_behind_are_where_they_were(runs, there, tmp_path):
    export_study(write_study(runs, "s", small_trials()), tmp_path / "s.zip")
    done = import_study(tmp_path / "s.zip", there)
    assert read_study(done.ledger).points[0].checkpoint_uri == f"{runs}/s-dense/export"
    assert read_json(f"{there}/s-dense/evaluation/result.json")["key"]["checkpoint_uri"] == f"{runs}/s-dense/export"


def test_results_of_another_study_that_were_reused_travel_too(runs, there, tmp_path):
    write_study(runs, "first", small_trials())
    made = write_study(runs, "second", small_trials()[1:])
    reused = Ledger(runs, "first").trial("dense").become("finished", reused_from="first/dense")
    made.put(reused)
    export_study(made, tmp_path / "s.zip")
    done = import_study(tmp_path / "s.zip", there)
    shutil.rmtree(runs.removeprefix("file://"))
    dense = next(point for point in read_study(done.ledger).points if point.name == "dense")
    assert dense.outcomes_uri == f"{there}/second-dense/reused/outcomes.parquet"
    assert read_bytes(dense.outcomes_uri)
    assert done.ledger.trial("dense").reused_from == "first/dense"


def test_the_report_travels_under_the_new_name(runs, there, tmp_path):
    made = write_study(runs, "s", small_trials())
    write_json(
        f"{made.uri}/report/study.json", {"study": "s", "points": [{"outcomes_uri": f"{runs}/s-dense/e.parquet"}]}
    )
    write_bytes(f"{made.uri}/report/report.html", b"<html>")
    export_study(made, tmp_path / "s.zip")
    import_study(tmp_path / "s.zip", there, "moved")
    assert read_json(f"{there}/studies/moved/report/study.json") == {
        "study": "moved",
        "points": [{"outcomes_uri": f"{there}/moved-dense/e.parquet"}],
    }
    assert read_bytes(f"{there}/studies/moved/report/report.html") == b"<html>"


def test_the_manifest_knows_every_file(runs, tmp_path):
    export_study(write_study(runs, "s", small_trials()), tmp_path / "s.tar.gz")
    manifest = verified_manifest(tmp_path / "s.tar.gz")
    with tarfile.open(tmp_path / "s.tar.gz") as archive:
        for name, about in manifest["files"].items():
            assert hashlib.sha256(archive.extractfile(name).read()).hexdigest() == about["sha256"]
        assert set(archive.getnames()) == {*manifest["files"], "manifest.json"}
    assert manifest["runs_uri"] == runs


def test_files_of_others_stay(runs, tmp_path):
    made, file = write_study(runs, "s", small_trials()), tmp_path / "s.zip"
    file.write_text("mine")
    with pytest.raises(DpnError, match="exists; name another file, or add --force"):
        export_study(made, file)
    assert file.read_text() == "mine"
    export_study(made, file, force=True)
    assert verified_manifest(file)["study"] == "s"
    with pytest.raises(DpnError, match=r"ends in \.zip, \.tar\.gz, \.tgz"):
        export_study(made, tmp_path / "s.rar")
    write_bytes(f"{made.uri}/trials/x.json", b"{")
    with pytest.raises(DpnError, match=r"trials/x\.json: not valid JSON"):
        export_study(made, tmp_path / "t.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "s.zip"], "nothing half written is left"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda all: {**all, "runs/dense/metrics.jsonl": b"{}"}, "dense/metrics.jsonl is not what was exported"),
        (lambda all: {**all, "runs/dense/more": b"{}"}, "runs/dense/more is not in its manifest"),
        (lambda all: {name: data for name, data in all.items() if name != "study.json"}, "study.json is missing"),
        (lambda all: {name: data for name, data in all.items() if name != "manifest.json"}, "holds no manifest.json"),
        (lambda all: {**all, "manifest.json": b"[]"}, "manifest.json is not that of a study"),
        (lambda all: {**all, "manifest.json": all["manifest.json"].replace(b'"version": 1', b'"version": 9')},
         "an archive of version 9, this version reads 1"),
        (lambda all: with_file(all, "../outside.json"), r"'\.\./outside\.json' leaves the folder"),
        (lambda all: with_file(all, "runs/dense/../../../x"), "leaves the folder"),
        (lambda all: with_file(all, "/etc/x"), "leaves the folder"),
        (lambda all: with_file(all, "runs\\..\\x"), "leaves the folder"),
        (lambda all: with_file(all, "study/lease/000000.json"), "belongs to no part of a study"),
        (lambda all: with_file(all, "runs/other/metrics.jsonl"), "belongs to no part of a study"),
        (lambda all: with_file(all, "study/trials/y.json", all["study/trials/dense.json"]), "holds the trial 'dense'"),
    ],
)  # fmt: skip
def test_an_archive_that_was_changed_is_refused(runs, there, tmp_path, change, told):
    export_study(write_study(runs, "s", small_trials()), tmp_path / "s.zip")
    with pytest.raises(DpnError, match=told):
        import_study(rebuilt(tmp_path / "s.zip", change), there)
    assert not (tmp_path / "there/studies/s.json").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "there") == ["runs", "s.zip"]


def test_links_and_what_is_no_archive_are_refused(there, tmp_path):
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("study.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info, io.BytesIO())
    (tmp_path / "text.zip").write_text("no archive")
    (tmp_path / "text.tar.gz").write_text("no archive")
    for name, told in {
        "link.tar.gz": "study.json is no plain file",
        "text.zip": "cannot be read as an archive",
        "text.tar.gz": "cannot be read as an archive",
        "none.zip": "no such file",
        "a.txt": "ends in",
    }.items():
        with pytest.raises(DpnError, match=told):
            import_study(tmp_path / name, there)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_file_cut_short_is_refused(runs, there, tmp_path, suffix):
    file = tmp_path / f"s{suffix}"
    export_study(write_study(runs, "s", small_trials()), file)
    whole = file.read_bytes()
    for share in (0.3, 0.9):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DpnError, match=r"cannot be read as an archive|holds no manifest"):
            import_study(file, there)


def test_a_taken_name_and_taken_places_are_refused(runs, there, tmp_path):
    export_study(write_study(runs, "s", small_trials()), tmp_path / "s.zip")
    with pytest.raises(DpnError, match="study 's' exists already in .*; choose another --name"):
        import_study(tmp_path / "s.zip", runs)
    with pytest.raises(DpnError, match="study name 'a/b': letters"):
        import_study(tmp_path / "s.zip", there, "a/b")
    write_bytes(f"{there}/s-dense/metrics.jsonl", b"another run\n")
    with pytest.raises(DpnError, match=r"s-dense/metrics\.jsonl holds something else"):
        import_study(tmp_path / "s.zip", there)
    assert read_bytes(f"{there}/s-dense/metrics.jsonl") == b"another run\n"


def test_an_import_that_was_cut_goes_on(runs, there, tmp_path, monkeypatch):
    export_study(write_study(runs, "s", small_trials()), tmp_path / "s.zip", checkpoints=True)
    monkeypatch.setattr(importing, "_put_folder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        import_study(tmp_path / "s.zip", there)
    assert not (tmp_path / "there/studies/s.json").exists(), "half a study is none"
    monkeypatch.undo()
    assert len(read_study(import_study(tmp_path / "s.zip", there).ledger).points) == 5
