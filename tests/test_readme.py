"""The Python of the README runs as it stands, and prints what its comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dpn_model.methods import registry


def test_python_blocks_run_in_order(
    repo_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo_root)
    monkeypatch.setattr(registry, "_REGISTERED", {})  # the README's own method stays in this test
    text = (repo_root / "README.md").read_text()
    namespace: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(block, namespace)
    printed = capsys.readouterr().out.splitlines()
    told = [line for block in blocks for line in block.splitlines() if line.startswith("print(")]
    assert len(printed) == len(told)
    for line, output in zip(told, printed, strict=True):
        comment = line.partition("  # ")[2].lstrip()
        if comment[:1] in "[(0":
            assert output.startswith(comment.partition("...")[0]), f"{line}\nprinted {output}"
    assert len(blocks[1].splitlines()) < 50, "a method of one's own takes less than fifty lines"
