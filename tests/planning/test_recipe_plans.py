"""Recipes of real size: the model is built on the meta device, the whole plan made, and the head says what it says."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from dpn_model import method_profile
from dpn_model.methods.registry import find_method, method_names
from dpn_platform.config.load import difference, load_config
from dpn_platform.config.training import LoraSettings
from dpn_platform.planning.build import Assumptions, build_plan
from dpn_platform.planning.compute import ASSUMED_MFU, PEAK_TFLOPS
from dpn_platform.planning.data_set import ASSUMED_TEXT_TOKENS
from dpn_platform.training.base import method_of

CONFIGS = Path(__file__).parents[2] / "jobs/configs"
NAMES = ("llava-1.5-7b", "llava-1.5-13b", "llava-hr-7b", "llava-hr-x-13b")
CONTROLS = tuple(f"{name}-{control}" for name in NAMES for control in ("dense", "lora"))
PRETRAIN = "llava-1.5-7b-pretrain"
#: by method: what its recipe says of `train` beside the recipe it extends
RIVALS = {
    **dict.fromkeys(("static", "random_kernel", "avgpool"), {}),
    **dict.fromkeys(("pixel_shuffle", "resampler", "c_abstractor", "ldpv2", "tokenpacker", "mqt"), {}),
    **dict.fromkeys(("pyramiddrop", "hidrop", "gamma_mod", "avg_llava", "m3", "prumerge", "llava_mini"), {}),
    "twigvlm": {"lr": 0, "router_lr": 1e-4},
    "glimpse_prune": {"steps": 157, "lr": 0, "router_lr": 1e-4},
    "moe_llava": {"lr": 0, "router_lr": 2e-5},
    "roe_llava": {"steps": 3118, "lr": 2e-6, "router_lr": 4e-4},
    "vispco": {"steps": 520, "lr": 0, "router_lr": 1e-4},
    "visionzip": {"steps": 520, "lr": 0, "projector_lr": 2e-5},
}
BOTH_STAGES = [name for name in RIVALS if find_method(name).needs_training == "stage 1+2"]
GIB = 2**30


def plan(name, text_tokens=ASSUMED_TEXT_TOKENS, *overrides):
    return cached_plan(name, text_tokens, overrides)


@cache
def cached_plan(name, text_tokens, overrides):
    return build_plan(load_config(CONFIGS / f"{name}.yaml", overrides), Assumptions(text_tokens=text_tokens))


@pytest.fixture(autouse=True)
def _no_services(monkeypatch, tmp_path):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DPN_HOME", str(tmp_path))


def expected_line(planned, dense=None):
    hours = planned["total"]["device_hours"]
    memory, kept = planned["methods"][0]["memory"]["total"], planned["total"]["bytes_kept"]
    told = f"{hours['high']:.1f} h200-hours"
    if dense is not None:
        told = f"{hours['low']:.1f} to {told} (dense {dense['total']['device_hours']['high']:.1f})"
    return f"# Expected:  {told}, {memory / GIB:.0f} GiB a device, {kept / GIB:.0f} GiB kept"


def expected_of_a_rival(planned):
    """Hours, memory and storage of the run; of a prompt, what the decoder costs beside dense, and its cache."""

    def span(bounds, digits, unit=1):
        low, high = (f"{bounds[end] / unit:.{digits}f}" for end in ("low", "high"))
        return low if low == high else f"{low} to {high}"

    method, total = planned["methods"][0], planned["total"]
    return [
        f"# Expected:  {span(total['device_hours'], 1)} h200-hours, "
        f"{method['memory']['total'] / GIB:.0f} GiB a device, {total['bytes_kept'] / GIB:.0f} GiB kept",
        f"#            decoder on a prompt: {span(method['flops_ratio_swiglu'], 3)} of dense (swiglu), "
        f"{span(method['kv_bytes'], 0, 2**20)} MiB of KV cache",
        f"#            at {assumed(ASSUMED_TEXT_TOKENS)}",
    ]


def assumed(text_tokens):
    return f"{text_tokens} text tokens a sample, {ASSUMED_MFU:.0%} of {PEAK_TFLOPS['h200']:g} TFLOP/s"


@pytest.mark.parametrize("name", NAMES)
def test_the_head_says_what_the_plan_says(name):
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert expected_line(plan(name), plan(f"{name}-dense")) in lines
    assert any(assumed(ASSUMED_TEXT_TOKENS) in line for line in lines)


@pytest.mark.parametrize("name", ["llava-1.5-7b", "llava-hr-7b"])
def test_one_training_of_all_routes_beside_a_single_trial(name):
    """What three copies of every sample, and the routes measured behind the training, cost."""
    text, planned, single = ((CONFIGS / f"{name}-dynamic.yaml").read_text(), plan(f"{name}-dynamic"), plan(name))
    assert expected_line(planned, plan(f"{name}-dense")) in text.splitlines()
    hours, of_single = (one["total"]["device_hours"] for one in (planned, single))
    lesson, dense = planned["methods"][0]["lesson"], plan(f"{name}-dense")["total"]["device_hours"]["high"]
    measuring = lesson["samples"] * lesson["flops_per_sample"] / (PEAK_TFLOPS["h200"] * 1e12 * ASSUMED_MFU) / 3600
    assert f"#            {measuring:.1f} of these hours measure routes" in text
    assert f"a single point, takes {of_single['low']:.1f} to {of_single['high']:.1f}" in text
    assert 1 < lesson["dense_passes"] < 27 / 4  # of 27 routes, the tree
    # Beside the dense copy, the cheapest twice, where the drawn one is it too; the tower runs once for all three.
    assert dense + of_single["low"] < hours["low"] - measuring < dense + 2 * of_single["low"]
    batch = {one: load_config(CONFIGS / f"{one}.yaml").train.micro_batch_size for one in (name, f"{name}-dynamic")}
    assert batch[f"{name}-dynamic"] * 3 <= batch[name]


@pytest.mark.parametrize(("name", "text_tokens"), [*((name, ASSUMED_TEXT_TOKENS) for name in CONTROLS), (PRETRAIN, 30)])
def test_the_head_of_a_dense_recipe_says_what_the_plan_says(name, text_tokens):
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert expected_line(plan(name, text_tokens)) in lines
    assert any(assumed(text_tokens) in line for line in lines)


@pytest.mark.parametrize("method", RIVALS)
def test_the_head_of_a_rivals_recipe_says_what_the_plan_says(method):
    text, planned = (CONFIGS / f"llava-1.5-7b-{method}.yaml").read_text(), plan(f"llava-1.5-7b-{method}")
    assert "\n".join(expected_of_a_rival(planned)) in text
    # In stage 1 too, the method's own projector is what learns.
    stage_1 = f"dpn train jobs/configs/{PRETRAIN}.yaml method.name={method} "
    assert (f"# Command:   {stage_1}" in text) == (method in BOTH_STAGES)
    assert f"dpn train jobs/configs/llava-1.5-7b-{method}.yaml model.base=" in text


@pytest.mark.parametrize("method", BOTH_STAGES)
def test_stage_1_runs_with_the_methods_own_projector(method):
    first, second = plan(PRETRAIN, 30, f"method.name={method}"), plan(f"llava-1.5-7b-{method}")
    sizes, later = (one["methods"][0]["parameters"] for one in (first, second))
    assert sizes["trained"] == sizes["projector"] == later["projector"]
    assert first["methods"][0]["sites"] == second["methods"][0]["sites"]


@pytest.mark.parametrize("method", RIVALS)
def test_a_rival_differs_in_what_it_names(method):
    name = f"llava-1.5-7b-{method}"
    parent = "llava-1.5-7b-lora" if method == "prumerge" else "llava-1.5-7b"
    before, rival = (load_config(CONFIGS / f"{one}.yaml") for one in (parent, name))
    changed = {line.partition(":")[0] for line in difference(before, rival)}
    named = {"name", *(f"train.{key}" for key in RIVALS[method])}
    assert {key for key in changed if not key.startswith("method.")} == named
    assert rival.name == name
    assert rival.method.settings == find_method(method).settings()
    assert {key: getattr(rival.train, key) for key in RIVALS[method]} == RIVALS[method]


def test_what_is_trained_has_a_recipe():
    trained = {name for name in method_names() if find_method(name).needs_training != "none"}
    assert trained - set(RIVALS) == {"dpn", "complexity"}  # llava-1.5-7b.yaml; thresholds come from a set's pictures


def test_what_the_authors_freeze_is_frozen():
    parts = {method: plan(f"llava-1.5-7b-{method}")["methods"][0]["parameters"] for method in RIVALS}
    for method in ("twigvlm", "moe_llava", "glimpse_prune", "vispco"):
        assert parts[method]["trained"] == parts[method]["routers"] > 0
    assert parts["visionzip"]["trained"] == parts["visionzip"]["projector"]
    assert parts["roe_llava"]["routers"] == 268_959_744  # peer-methods 7.1: about 269.0 M
    assert parts["moe_llava"]["routers"] == 16 * (3 * 3 * 4096 * 11008 + 4 * 4096)  # three copies of an FFN each


@pytest.mark.parametrize("name", NAMES)
def test_a_control_differs_in_what_it_is_the_control_of(name):
    base, dense, lora = (load_config(CONFIGS / f"{name}{kind}.yaml") for kind in ("", "-dense", "-lora"))
    differs = [line for line in difference(base, dense) if not line.endswith("-> absent")]
    assert differs == [f'name: "{name}" -> "{name}-dense"', 'method.name: "dpn" -> "dense"']
    assert all(line.startswith("method.") for line in difference(base, dense)[1:])
    changed = {line.partition(":")[0] for line in difference(dense, lora)}
    rates = {"train.lr", "train.projector_lr", "train.router_lr"} | ({"train.vision_lr"} if "hr" in name else set())
    assert changed - rates == {"name", "train.lora", *(f"train.lora.{key}" for key in LoraSettings.model_fields)}
    # LLaVA's script; the towers of LLaVA-HR keep the rate they have without adapters.
    assert (lora.train.lr, lora.train.projector_lr, lora.train.lora) == (2e-4, 2e-5, LoraSettings())
    assert lora.train.vision_lr == (2e-5 if "hr" in name else 0)


def test_frozen_layers_are_passed_through():
    """Adapters and the projector need gradients of the decoder's inputs, not of its weights: 3 passes of 4."""
    whole, adapted, passed = (
        plan(name)["methods"][0] for name in ("llava-1.5-7b-dense", "llava-1.5-7b-lora", PRETRAIN)
    )
    decoder = [method["training_flops_per_sample"]["dearest"]["decoder"] for method in (whole, adapted, passed)]
    assert decoder[1] == decoder[2] == pytest.approx(0.75 * decoder[0])
    # spec base-models B.1; adapters of rank 128 beside 7 matrices of 32 layers
    assert passed["parameters"]["trained"] == 20_979_712
    assert adapted["parameters"]["adapters, in the language model"] == 128 * 32 * (4 * 2 * 4096 + 3 * (4096 + 11008))


def test_stage_1_is_the_authors():
    config = load_config(CONFIGS / f"{PRETRAIN}.yaml")
    train = config.train
    assert (train.global_batch_size, train.projector_lr, train.lr, train.warmup_ratio) == (256, 1e-3, 0, 0.03)
    assert (train.steps, config.model.template) == (-(-558_128 // 256), "plain")


@pytest.mark.parametrize("name", NAMES)
def test_method_is_the_papers_and_causal(name):
    config = load_config(CONFIGS / f"{name}.yaml")
    paper = replace(method_profile("paper", high_resolution="hr" in name), routing_token="first")
    assert method_of(config.method, seed=0) == paper


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


@pytest.mark.parametrize("name", ["chatrex-7b", "chatrex-7b-perception", "chatrex-7b-align"])
def test_stages_of_chatrex_cost_what_their_recipes_say(name):
    dense = plan(name, 260, "method.name=dense") if name == "chatrex-7b" else None
    lines = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert expected_line(plan(name, 260), dense) in lines
    assert any(assumed(260) in line for line in lines)
