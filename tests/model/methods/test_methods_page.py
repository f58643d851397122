"""docs/methods.md names every method, in one table, with the training that its spec says."""

import re
from pathlib import Path

import pytest

from dpn_model.methods.registry import _OURS, find_method

PAGE = (Path(__file__).parents[3] / "docs/methods.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE))
TOLD = {"none": "none", "stage 2": "stage 2", "stage 1+2": "1 + 2"}


def test_the_page_has_a_row_for_every_method_and_no_other():
    assert set(ROWS) == set(_OURS)


@pytest.mark.parametrize("name", [name for name in _OURS if name != "dense"])
def test_the_row_says_what_the_spec_says(name):
    spec = find_method(name)
    _, training, budget = ROWS[name].rsplit("|", 2)
    assert training.strip() == TOLD[spec.needs_training]
    setting = "" if spec.budget is None else f"`{spec.budget.setting}`"
    assert budget.strip() == setting or spec.has_dial
