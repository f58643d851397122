"""`dpn plan`: one document or tables, errors before anything starts, and what is missing named."""

import json

import pytest

from dpn_platform.cli import main
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.planning.build import Assumptions, build_plan
from tests.scored_benchmarks.objects.small_published import publish_records


@pytest.fixture(autouse=True)
def _no_services(monkeypatch, tmp_path):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DPN_HOME", str(tmp_path / "home"))


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nmodel: {base: tiny}\ntrain: {steps: 10, use_gpu: true}\n")
    return str(path)


def experiment(**sections):
    return parse_config({"name": "x", "model": {"base": "tiny"}, **sections})


def test_document_and_tables_tell_the_same(recipe, tmp_path, capfd):
    prices = tmp_path / "prices.yaml"
    prices.write_text("abacus: 2.5\n")
    options = ["--device", "abacus", "--peak-tflops", "0.01", "--mfu", "0.5", "--prices", str(prices)]
    assert main.run(["plan", recipe, *options, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    total = document["total"]
    flops = document["methods"][0]["training_flops_per_sample"]
    for bound, route in (("low", "cheapest"), ("high", "dearest")):
        assert total["training_flops"][bound] == pytest.approx(320 * flops[route]["total"])
        assert total["device_hours"][bound] == pytest.approx(320 * flops[route]["total"] / (1e10 * 0.5) / 3600)
        assert total["price"][bound] == pytest.approx(2.5 * total["device_hours"][bound])
    assert main.run(["plan", recipe, *options]) == 0
    tables = capfd.readouterr().out
    low, high = (f"{total['price'][bound]:.4g}" for bound in ("low", "high"))
    assert f"{low} to {high}" in tables
    assert "missing: data set s3://dpn/datasets/demo: not looked at: the services are not running" in tables


def test_what_is_missing_is_an_error_where_strict(recipe, capfd):
    assert main.run(["plan", recipe, "--strict"]) == 2
    assert "x cannot start: data set s3://dpn/datasets/demo: not looked at" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train.global_batch_size=33"],
            "global_batch_size 33 is not a multiple of micro_batch_size x num_workers = 32",
        ),
        (["method.sites=[3, 8]"], "8 is out of range; allowed: different layers from 0 to 7"),
        (["train.offload=all"], "offload all needs zero_stage 3, this is 1"),
        (["model.base=nowhere"], "model.base = 'nowhere': no from_pretrained folder there; named bases"),
        (["--device", "abacus"], "--device abacus: its peak is not known here"),
        (["--world-sizes", "8,many"], "--world-sizes 8,many: write numbers of devices"),
        (["--prices", "absent.yaml"], "absent.yaml: no such file"),
        (["train.use_gpu=false", "--prices", "some.yaml"], "--prices: train.use_gpu is false; give --device and"),
    ],
)
def test_errors_come_in_one_line(recipe, arguments, message, capfd):
    assert main.run(["plan", recipe, *arguments]) == 2
    errors = capfd.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_sweep_adds_up_over_its_trials():
    sweep = {"num_trials": 2, "controls": ["dense"]}
    plan = build_plan(experiment(train={"steps": 10}, sweep=sweep), Assumptions(text_tokens=16))
    assert plan["total"]["trials"] == 3
    assert plan["total"]["samples"] == 3 * 320
    dense, dpn = (method["training_flops_per_sample"]["dearest"]["total"] for method in plan["methods"])
    assert plan["total"]["training_flops"]["high"] == pytest.approx(320 * (dense + 2 * dpn))
    assert plan["total"]["device"] is None  # no hours of a machine nobody has measured
    assert (plan["total"]["evaluations"], plan["total"]["questions"]) == (3, None)


def test_evaluations_are_priced_with_every_point_of_a_dial():
    sweep = {"num_trials": 2, "controls": ["dense", {"name": "fastv", "on": "dense"}], "replicates": 3, "dial": [0.5]}
    method = {"route_fit": {"samples": 100}, "scaling": "off"}
    config = experiment(train={"steps": 10}, sweep=sweep, method=method, eval={"limit": 50})
    total = build_plan(config, Assumptions(text_tokens=16, device="mine", peak_tflops=0.01, mfu=0.5))["total"]
    assert (total["trials"], total["evaluations"], total["questions"]) == (1 + 2 * 3, 2 + 2 * 3 * 2, 50)
    both = total["training_flops"]["high"] + total["evaluation_flops"]["high"]
    assert total["device_hours_in_all"]["high"] == pytest.approx(both / (1e10 * 0.5) / 3600)
    assert total["device_hours_in_all"]["high"] > total["device_hours"]["high"]


def test_evaluations_on_all_routes_are_priced_as_the_walk(tmp_path, capfd):
    """Of what is trained and takes routes: neither the controls nor a dial's points."""
    sweep = {"num_trials": 2, "controls": ["dense", {"name": "fastv", "on": "dense"}], "replicates": 3, "dial": [0.5]}
    method = {"route_fit": {"samples": 100}, "scaling": "off"}
    own, every = (
        build_plan(
            experiment(train={"steps": 10}, sweep=sweep, method=method, eval={"limit": 50, "routes": routes}),
            Assumptions(text_tokens=16),
        )
        for routes in ("own", "all")
    )
    walk = every["methods"][-1]["all_routes"]["flops_per_question"]["low"]
    assert walk > 2 * every["methods"][-1]["forward_per_sample"]["true"]["total"]["low"]
    for bound in ("low", "high"):
        more = every["total"]["evaluation_flops"][bound] - own["total"]["evaluation_flops"][bound]
        assert more == pytest.approx(50 * 2 * 3 * walk)
    assert own["methods"][-1]["all_routes"] is None
    assert [one["name"] for one in every["methods"] if one["trials"] and one["all_routes"]["routes"]["low"]] == ["dpn"]
    assert [one["name"] for one in every["methods"] if one["all_routes"] is None] == ["fastv-free"]
    alone = build_plan(experiment(eval={"limit": 50, "routes": "all"}), Assumptions(text_tokens=16))
    assert (alone["methods"][0]["all_routes"], alone["total"]["evaluation_flops"]) == (None, {"low": 0, "high": 0})
    path = tmp_path / "all.yaml"
    path.write_text("name: x\nmodel: {base: tiny}\nsweep: {num_trials: 1}\neval: {routes: all}\n")
    assert main.run(["plan", str(path), "--text-tokens", "10"]) == 0
    printed = capfd.readouterr().out
    assert "dpn: every question on all its routes too (27), as 3.5" in printed
    assert printed.count("every question on all") == 1


def test_questions_of_a_data_set_are_counted_by_the_families_that_are_asked(tmp_path):
    data = {"uri": publish_records(tmp_path / "set"), "train_split": "test"}
    counted = {}
    for names in (["heldout"], ["detection"], ["detection", "counting", "heldout"], ["detection", "gqa"]):
        config = experiment(data=data, train={"steps": 10}, eval={"benchmarks": names})
        counted[" ".join(names)] = build_plan(config, Assumptions(text_tokens=16))["total"]["questions"]
    # One record of a family may turn out to have no boxes: that is seen when its questions are read.
    assert counted == {"heldout": 11, "detection": 3, "detection counting heldout": 16, "detection gqa": None}


def test_local_data_set_that_is_not_there_is_named(tmp_path):
    plan = build_plan(experiment(data={"uri": str(tmp_path / "absent")}), Assumptions())
    assert "absent" in plan["data"]["missing"]
    with pytest.raises(DpnError, match=r"x cannot start: data set .*absent: no data set is published"):
        build_plan(experiment(data={"uri": str(tmp_path / "absent")}), Assumptions(strict=True))


def test_other_world_sizes_are_told_per_stage():
    config = experiment(method={"name": "dense"}, train={"precision": "bf16"})
    rows = build_plan(config, Assumptions(world_sizes=(1, 4)))["methods"][0]["alternatives"]
    by_case = {(row["zero_stage"], row["num_workers"]): row for row in rows}
    assert len(by_case) == 8
    assert by_case[1, 4]["optimizer"] * 4 == pytest.approx(by_case[0, 4]["optimizer"], abs=4)
    assert by_case[2, 4]["gradients"] * 4 == pytest.approx(by_case[1, 4]["gradients"], abs=4)
    assert by_case[0, 4] == {**by_case[0, 1], "num_workers": 4}
