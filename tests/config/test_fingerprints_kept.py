"""Experiments keep the fingerprints that they had before keys were added: runs go on, results are found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn_platform.config.load import fingerprint, load_config

#: as they were before `data.positives`, `train.embedding_lr` and `train.slow_vision_lr`
KEPT = {"demo-train": "0bdc388ea8b8b3ab", "demo-search": "5fcd332a9cfede92", "llava-1.5-7b": "200daa0f85f35577"}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_computed_as_before_has_the_same_fingerprint(name: str, repo_root: Path) -> None:
    recipe = repo_root / "jobs" / "configs" / f"{name}.yaml"
    assert fingerprint(load_config(recipe)) == KEPT[name]
    assert fingerprint(load_config(recipe, ["train.embedding_lr=0.1"])) != KEPT[name]
    assert fingerprint(load_config(recipe, ["data.positives=iou50"])) != KEPT[name]
