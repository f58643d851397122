"""Studies in a real S3 store: listed, shown, compared, moved from there to a disk and back, archived."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.reports.study.changes import changes_between
from dpn_platform.storage import delete_folder, read_bytes
from dpn_platform.sweeps.catalogue import find_study, list_studies, read_study
from dpn_platform.sweeps.export import export_study
from dpn_platform.sweeps.importing import import_study
from tests.sweeps.written_studies import small_trials, study_config, write_study

pytestmark = [pytest.mark.services, pytest.mark.usefixtures("services")]


@pytest.fixture
def runs() -> Any:
    uri = f"s3://dpn/{uuid.uuid4().hex}"
    yield uri
    delete_folder(uri)


def test_a_study_there_and_back(runs: str, tmp_path: Path) -> None:
    write_study(f"{runs}/a", "one", small_trials())
    write_study(f"{runs}/a", "two", small_trials(gain=0.15))
    found = {one.name: one for one in list_studies(f"{runs}/a", long=True)}
    assert {name: (one.state, len(one.points), one.faults) for name, one in found.items()} == {
        "one": ("finished", 5, ()),
        "two": ("finished", 5, ()),
    }
    export_study(find_study(f"{runs}/a", "one"), tmp_path / "one.tar.gz", checkpoints=True)
    on_disk = import_study(tmp_path / "one.tar.gz", f"file://{tmp_path}/runs").ledger
    export_study(on_disk, tmp_path / "back.zip", checkpoints=True)
    back = import_study(tmp_path / "back.zip", f"{runs}/b", "back").ledger
    with pytest.raises(DpnError, match="exists already"):
        import_study(tmp_path / "back.zip", f"{runs}/b", "back")
    delete_folder(f"{runs}/a/one-dense")
    assert read_bytes(f"{runs}/b/back-dense/export/model.safetensors") == b"dense"
    moves, front = changes_between(read_study(back).points, found["two"].points, "swiglu")
    assert {move.unpaired for move in moves} == {None}
    assert front.change is not None
    assert front.change.low > 0
    back.archive()
    with pytest.raises(DpnError, match="is archived since"):
        back.open(study_config(f"{runs}/b"))
    assert [one.state for one in list_studies(f"{runs}/b")] == ["archived"]
