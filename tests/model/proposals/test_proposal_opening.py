"""Sources from their descriptions, and what a word of the command line is taken for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dpn_model.proposals.contract import Known, Limits
from dpn_model.proposals.opening import SourceSpec, kind_of_file, kind_of_model, open_source
from tests.model.proposals.tiny_detectors import pictures, save_detector, save_grounding


def test_kinds_are_told_by_names_and_by_what_a_folder_holds() -> None:
    assert [kind_of_file(name) for name in ("jitter", "s3://b/boxes.jsonl", "boxes.json", "upn_large.pth")] == [
        "jitter",
        "files",
        "files",
        "upn",
    ]
    assert kind_of_model("rt_detr", "folder") == "detector"
    assert kind_of_model("mm-grounding-dino", "folder") == "grounding"
    with pytest.raises(ValueError, match="^folder holds a model of type llama; those that propose boxes are d_fine, "):
        kind_of_model("llama", "folder")


def test_what_is_no_source_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=re.escape("kind is oracle; allowed: files, detector, grounding, upn, jitter")):
        open_source(SourceSpec("oracle"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold is 2; allowed: 0 to 1"):
        open_source(SourceSpec("jitter", threshold=2))


def test_opened_sources_have_the_descriptions_limits(tmp_path: Path) -> None:
    folder, dino = save_detector(tmp_path / "detr", "detr"), save_grounding(tmp_path / "dino", "mm-grounding-dino")
    detector = open_source(SourceSpec("detector", str(folder), threshold=0.1, nms=0.5))
    asked = open_source(SourceSpec("grounding", str(dino)))
    assert detector.limits == Limits(0.1, 0.5)  # type: ignore[attr-defined]
    assert asked.limits == Limits(0.25, 0.8)  # type: ignore[attr-defined]
    assert len(detector.propose(pictures((60, 40)))[0]) > 0
    file = tmp_path / "boxes.jsonl"
    file.write_text('{"id": "a", "boxes": [[0, 0, 9, 9]], "scores": [0.31]}\n')
    found = open_source(SourceSpec("files", str(file))).propose(pictures((60, 40)), known=[Known("a")])
    assert found[0].boxes.tolist() == [[0, 0, 9, 9]]


def test_files_and_jitter_load_no_framework() -> None:
    code = (
        "import sys; from dpn_model.proposals.opening import SourceSpec, open_source; "
        "import dpn_model.proposals.files; open_source(SourceSpec('jitter')); print(*sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert {name.split(".")[0] for name in done.stdout.split()}.isdisjoint({"torch", "transformers"})
