"""Recipes of real size: the model is built on the meta device, the whole plan made, and the head says what it says."""

from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

from dpn_model import method_profile
from dpn_platform.config.load import load_config
from dpn_platform.planning.build import Assumptions, build_plan
from dpn_platform.planning.compute import ASSUMED_MFU, PEAK_TFLOPS
from dpn_platform.planning.data_set import ASSUMED_TEXT_TOKENS
from dpn_platform.training.base import method_of

CONFIGS = Path(__file__).parents[2] / "jobs/configs"
NAMES = ("llava-1.5-7b", "llava-1.5-13b", "llava-hr-7b", "llava-hr-x-13b")
GIB = 2**30


@cache
def plan(name, *overrides):
    return build_plan(load_config(CONFIGS / f"{name}.yaml", overrides), Assumptions(text_tokens=ASSUMED_TEXT_TOKENS))


@pytest.fixture(autouse=True)
def _no_services(monkeypatch, tmp_path):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DPN_HOME", str(tmp_path))


def expected_line(dpn, dense):
    hours, control = dpn["total"]["device_hours"], dense["total"]["device_hours"]
    memory, kept = dpn["methods"][0]["memory"]["total"], dpn["total"]["bytes_kept"]
    return (
        f"# Expected:  {hours['low']:.1f} to {hours['high']:.1f} h200-hours (dense {control['high']:.1f}), "
        f"{memory / GIB:.0f} GiB a device, {kept / GIB:.0f} GiB kept"
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_head_says_what_the_plan_says(name):
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert expected_line(plan(name), plan(name, "method.name=dense")) in lines
    assumed = f"{ASSUMED_TEXT_TOKENS} text tokens a sample, {ASSUMED_MFU:.0%} of {PEAK_TFLOPS['h200']:g} TFLOP/s"
    assert any(assumed in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_method_is_the_papers(name):
    config = load_config(CONFIGS / f"{name}.yaml")
    paper = method_profile("paper", high_resolution="hr" in name)
    assert asdict(method_of(config.method, seed=paper.seed)) == asdict(paper)


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_the_papers(name):
    train = load_config(CONFIGS / f"{name}.yaml").train
    assert (train.global_batch_size, train.lr, train.warmup_ratio) == (128, 2e-5, 0.03)
    assert train.steps == 665_298 // train.global_batch_size
    assert train.gradient_accumulation_steps * train.micro_batch_size * train.num_workers == 128


@pytest.mark.parametrize(
    ("name", "tower", "projector"),
    [
        # spec base-models B.1
        ("llava-1.5-7b", 303_507_456, 20_979_712),
        ("llava-1.5-13b", 303_507_456, 31_467_520),
    ],
)
def test_parts_have_the_published_sizes(name, tower, projector):
    method = plan(name)["methods"][0]
    assert method["parameters"]["vision tower"] == tower
    assert method["parameters"]["projector"] == projector
    assert method["parameters"]["trained"] == method["parameters"]["total"] - tower
