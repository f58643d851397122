"""A method from a package outside the repository: planned, trained, swept, a control, evaluated, reported, generating.

The package is installed as packages are: a folder on the path with metadata whose entry point names the spec. The code
is the README's own example, with a weight so that there is something to train.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.services, pytest.mark.ray, pytest.mark.slow]

PACKAGE = '''
"""Keeps every nth visual token, times a weight that starts as one."""

from dataclasses import dataclass

import torch
from torch import nn

from dpn_model.methods.contract import Parts, TokenReducer
from dpn_model.methods.records import ReductionRecord
from dpn_model.methods.rows import ImageRows, replace_image_rows
from dpn_model.methods.settings import SitedSettings, setting
from dpn_model.methods.spec import Dimension, MethodSpec, plan_of_stages


@dataclass(frozen=True)
class Settings(SitedSettings):
    name = "every_nth"
    n: int = setting(2, "every which visual token is kept", ge=2)


class EveryNth(TokenReducer):
    def __init__(self, layer, settings, hidden_size):
        super().__init__(layer)
        self.n, self.scale = settings.n, nn.Parameter(torch.ones(hidden_size))

    def forward(self, state, probe):
        import numpy as np

        after, _ = replace_image_rows(
            state, [ImageRows.kept(np.arange(0, image.num_tokens, self.n)) for image in state.images]
        )
        is_visual = (after.kind_T == 1)[:, None]
        after = after.with_hidden(torch.where(is_visual, after.hidden_TD * self.scale, after.hidden_TD))
        choices = tuple(f"1/{self.n}" if tokens else "-" for tokens in state.visual_tokens())
        return after, ReductionRecord(self.layer, state.visual_tokens(), after.visual_tokens(), choices)


SPEC = MethodSpec(
    Settings,
    "every nth",
    lambda settings, shape, text: plan_of_stages(settings, shape, text, lambda n, _: -(-n // settings.n)),
    lambda settings, host: Parts(
        {layer: EveryNth(layer, settings, host.hidden_size) for layer in settings.resolve_sites(host.num_layers)}
    ),
    search={"n": Dimension("n", choices=(2, 3, 4))},
    needs_training="stage 2",
)
'''
ENTRY_POINT = "[dpn_lab.methods]\nevery_nth = every_nth_method:SPEC\n"
GENERATE = """
import sys, torch
from dpn_model import DpnForConditionalGeneration
model = DpnForConditionalGeneration.from_pretrained(sys.argv[1])
ids = torch.tensor([[model.image_token_id] * 64 + [9, 10, 11]])
out = model.generate(ids, pixel_values=torch.zeros(1, 3, 96, 96), max_new_tokens=3, min_new_tokens=3)
print(out.shape[1] - ids.shape[1], *model.last_routing.visual_tokens_per_stage(0), *model.last_routing.route(0))
"""


@pytest.fixture(scope="module")
def dpn(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Iterator[Callable[..., str]]:
    """Runs `dpn`, with services of its own that know the package."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "site/every_nth_method-1.0.dist-info").mkdir(parents=True)
    (folder / "site/every_nth_method.py").write_text(PACKAGE)
    (folder / "site/every_nth_method-1.0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: every-nth-method\nVersion: 1.0\n"
    )
    (folder / "site/every_nth_method-1.0.dist-info/entry_points.txt").write_text(ENTRY_POINT)
    paths = [str(folder / "site"), str(repo_root / "platform"), str(repo_root)]
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("DPN_", "AWS_", "RAY_", "MLFLOW_"))}
    env = {**keep, "PYTHONPATH": os.pathsep.join(paths), "DPN_HOME": str(folder / "home")}

    def run(*arguments: str, code: str | None = None, fails: bool = False) -> str:
        program = ["-c", code] if code else ["-m", "dpn_platform"]
        command = [sys.executable, *program, *arguments]
        done = subprocess.run(command, env=env, cwd=repo_root, capture_output=True, text=True, timeout=600)
        assert (done.returncode == 2) is fails, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stderr if fails else done.stdout

    run("up")
    yield run
    run("down")


@pytest.fixture(scope="module")
def recipe(dpn: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "nth.yaml"
    dpn("data", "make-demo", "--num-train", "200", "--num-test", "60", "s3://dpn/datasets/nth")
    path.write_text("""
name: nth
data: {uri: s3://dpn/datasets/nth}
model: {base: tiny}
method: {name: every_nth, n: 3, sites: [2, 5]}
train: {steps: 4, global_batch_size: 8, micro_batch_size: 8, checkpoint_every_steps: 4, log_every_steps: 2}
eval: {limit: 40}
sweep: {num_trials: 1, max_concurrent_trials: 1, controls: [dense, {name: every_nth, n: [2, 4]}]}
""")
    return path


def test_planned(dpn: Callable[..., str], recipe: Path) -> None:
    plan = json.loads(dpn("plan", str(recipe), "--json"))
    names = [method["name"] for method in plan["methods"]]
    assert names == ["dense", "every_nth-n-2", "every_nth-n-4", "every_nth"]
    assert plan["methods"][1]["visual_tokens_cheapest"] == [64, 32, 16]


def test_a_key_that_it_does_not_have_is_refused(dpn: Callable[..., str], recipe: Path) -> None:
    line = dpn("plan", str(recipe), "method.experts=[1x1]", fails=True)
    assert "every_nth has no setting experts; allowed: sites, positions, n" in line
    assert len(line.strip().splitlines()) == 1


def test_trained_evaluated_and_generating(dpn: Callable[..., str], recipe: Path, tmp_path: Path) -> None:
    run = json.loads(dpn("train", str(recipe), "--json", f"storage.runs_uri={tmp_path}/runs"))
    export = run["export_uri"].removeprefix("file://")
    result = json.loads(dpn("evaluate", export, "data.uri=s3://dpn/datasets/nth", "eval.limit=40", "--json"))
    assert result["flops_ratio"]["swiglu"] < 0.8
    assert dpn(export, code=GENERATE).split() == ["3", "64", "22", "8", "1/3", "1/3"]


@pytest.mark.long
def test_swept_with_itself_as_controls_and_reported(dpn: Callable[..., str], recipe: Path, tmp_path: Path) -> None:
    study: dict[str, Any] = json.loads(dpn("sweep", str(recipe), "--json"))
    points = {point["name"]: point for point in study["points"]}
    assert set(points) == {"dense", "every_nth-n-2", "every_nth-n-4", "every_nth-00"}
    assert points["dense"]["flops_ratio"]["swiglu"] == 1
    assert points["every_nth-n-4"]["flops_ratio"]["swiglu"] < points["every_nth-n-2"]["flops_ratio"]["swiglu"] < 1
    dpn("report", study["study"], "--out", str(tmp_path / "report"))
    page = (tmp_path / "report/report.html").read_text()
    assert "every nth" in page
