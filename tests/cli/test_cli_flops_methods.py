"""`dpn flops --method`: what a method costs, held against closed forms, and one line for bad input."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from math import prod

import pytest

from dpn_model.bases.catalogue import BASES, base_shape
from dpn_model.cost.ledger import LayerLoad, Rows
from dpn_model.methods.registry import Method, find_method, method_names
from dpn_platform.cli import main
from dpn_platform.cli.flops import build_account
from dpn_platform.cli.flops_account import method_account
from dpn_platform.config.errors import DpnError

BASE = "llava-1.5-7b"
CONVENTIONS = {"eq8", "swiglu", "true"}

#: method, its settings; mean visual tokens, eq8 without text in 10^9, its ratio, the ratio with 64 text tokens in the
#: same terms, swiglu without text in 10^12, MiB of cached visual tokens (spec peer-methods 1; None: not told there)
SCHEDULES = [
    ("dense", {}, 576, 2986.08, 1, 1, 3.8172, 288),
    ("fastv", {"sites": [2]}, 306, 1565.97, 0.5244, 0.5706, 2.0075, 153),
    ("fastv", {"sites": [2], "keep": 0.25}, 171, 871.20, 0.2918, 0.3606, 1.1179, 85.5),
    ("fastv", {"sites": [3]}, 315, 1613.31, 0.5403, 0.5850, 2.0678, 157.5),
    ("fastv", {"sites": [3], "keep": 0.4}, 262.4375, 1341.61, 0.4493, 0.5028, 1.7203, 131.2),
    ("fastv", {"sites": [3], "keep": 0.25}, 184.5, 941.70, 0.3154, 0.3819, 1.2079, 92.2),
    ("static", {"kernel": "1x2"}, 270, 1387.83, 0.4648, 0.5168, 1.7774, 135),
    ("static", {"kernel": "2x1"}, 270, 1387.83, 0.4648, 0.5168, 1.7774, 135),
    ("static", {"kernel": "2x2"}, 191.25, 985.79, 0.3301, 0.3952, 1.2617, 95.6),
    ("static", {"kernel": "1x2", "sites": [4, 8, 12]}, 171, 875.79, 0.2933, 0.3619, 1.1225, 85.5),
    ("random_drop", {}, 270, 1387.83, 0.4648, 0.5168, 1.7774, 135),
    ("fastervlm", {"keep": 64}, 64, 323.20, 0.1082, 0.1948, None, 32),
    ("fastervlm", {"keep": 128}, 128, 648.54, 0.2172, 0.2932, None, 64),
    ("fastervlm", {"keep": 144}, 144, 730.21, 0.2445, 0.3179, 0.9380, 72),
    ("fastervlm", {"keep": 192}, 192, 976.03, 0.3269, 0.3923, None, 96),
    ("fastervlm", {"keep": 256}, 256, 1305.67, 0.4373, 0.4919, None, 128),
    ("fastervlm", {"keep": 288}, 288, 1471.29, 0.4927, 0.5420, None, 144),
    ("fastervlm", {"keep": 9}, 9, 45.32, 0.0152, 0.1108, None, None),
    ("fastervlm", {"keep": 36}, 36, 181.53, 0.0608, 0.1520, None, None),
]


def overrides_of(settings):
    return [f"method.{key}={json.dumps(value)}" for key, value in settings.items()]


def text_as_vision(ledger):
    """The same rows, all of them counted by eq8: the spec's ratios with text."""

    def load(one):
        rows = (Rows(visual + text, 0) for visual, text in (one.stream, one.attention, one.ffn, one.keys))
        return LayerLoad(*rows, one.ffn_factor, one.runs_new)

    stages = tuple((count, load(one)) for count, one in ledger.stages)
    return replace(ledger, packed=Rows(sum(ledger.packed), 0), stages=stages)


@pytest.mark.parametrize(("name", "settings", "mean", "giga", "ratio", "with_text", "tera", "mib"), SCHEDULES)
def test_the_specs_table(name, settings, mean, giga, ratio, with_text, tera, mib):
    document, _ = method_account(BASE, name, overrides_of(settings), None, text_tokens=0)
    assert document["cheapest"] == document["dearest"]
    account = document["dearest"]
    assert account["visual_tokens_mean"] == pytest.approx(mean)
    assert account["eq8"]["total"] / 1e9 == pytest.approx(giga, abs=0.006)
    assert account["eq8"]["ratio"] == pytest.approx(ratio, abs=0.00006)
    if tera is not None:
        assert account["swiglu"]["total"] / 1e12 == pytest.approx(tera, abs=0.00006)
    if mib is not None:
        assert account["kv_mib"] == pytest.approx(mib, abs=0.06)
    shape = base_shape(BASE)
    ledger = find_method(name).plan(Method(name, **settings), shape, 64).dearest
    assert text_as_vision(ledger).prefill(shape.decoder, "eq8").ratio == pytest.approx(with_text, abs=0.00006)


@pytest.mark.parametrize(
    ("route", "giga"),
    [
        ("1,1,1", 2986.08),
        ("1,2,2", 2043.41),
        ("1,2,4", 1951.80),
        ("2,1,2", 1664.72),
        ("2,4,4", 1227.95),
        ("4,1,4", 1157.01),
    ],
)
def test_the_specs_routes(route, giga):
    document, _ = build_account(BASE, route, 0)
    assert document["eq8"]["total"] / 1e9 == pytest.approx(giga, abs=0.006)


def test_a_random_kernel_costs_the_mean_of_all_routes():
    routes = [",".join(areas) for areas in product("124", repeat=3)]
    accounts = [build_account(BASE, route, 0)[0] for route in routes]
    assert sum(one["eq8"]["total"] for one in accounts) / 27e9 == pytest.approx(1575.29, abs=0.006)
    bounds, _ = method_account(BASE, "random_kernel", [], None, 0)
    totals = [one["eq8"]["total"] for one in accounts]
    assert [bounds[kind]["eq8"]["total"] for kind in ("cheapest", "dearest")] == [min(totals), max(totals)]


@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("model", BASES)
def test_every_method_has_an_account_where_it_fits(model, name):
    try:
        document, splits = method_account(model, name, [], None, 60)
    except DpnError:  # defaults need not fit a smaller base, or another kind of tower
        if model == BASE:
            raise
        return
    shape = base_shape(model)
    assert document["method"] == Method(name).to_dict()
    low, high = document["cheapest"], document["dearest"]
    for convention in CONVENTIONS:
        assert 0 <= low[convention]["total"] <= high[convention]["total"] > 0  # 0: a method may skip all layers
        assert low[convention]["dense"] == high[convention]["dense"]
    for kind in ("cheapest", "dearest"):
        account, parts = document[kind], splits[kind]["parts"]["swiglu"]
        assert parts["prefill"] == account["swiglu"]["total"]
        assert parts["decode_per_token"] == account["decode"]["swiglu"]
        assert parts["method"] == sum(macs for tag, macs in account["macs"].items() if tag != "projector")
        assert account["kv_mib"] * 2**20 == sum(group["num_bytes"] for group in splits[kind]["kv"])
    assert high["visual_tokens"][0] <= prod(shape.image_grid)


@pytest.mark.parametrize(
    ("settings", "share", "kept"),
    [
        # spec peer-methods 1: FastV at 192, 128 and 64 tokens on average
        (["method.sites=[2]"], "1/3", 166),
        (["method.sites=[2]"], str(128 / 576), 98),
        (["method.sites=[2]"], "0.1111", 30),
        (["method.sites=[3]"], "192/576", 152),
        (["method.sites=[3]"], "0.2222", 82),
        (["method.sites=[3]"], "64/576", 11),
    ],
)
def test_a_budget_is_found(settings, share, kept):
    document, _ = method_account(BASE, "fastv", settings, share, 60)
    assert document["dearest"]["visual_tokens"] == [576, kept]
    assert document["method"]["keep"] != Method("fastv").keep


def flops(*arguments):
    return main.run(["flops", "--model", BASE, "--method", *arguments])


def test_the_document(capsys):
    assert flops("fastv", "method.keep=0.25", "--budget", "1/2", "--json") == 2
    assert "--budget finds keep" in capsys.readouterr().err
    assert flops("static", "method.kernel=1x2", "method.sites=[4, 8, 12]", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"model", "method", "text_tokens", "cheapest", "dearest"}
    assert document["method"]["name"] == "static"
    assert document["method"]["sites"] == [4, 8, 12]
    account = document["cheapest"]
    common = {"sites", "visual_tokens", "visual_tokens_mean", "decode", "macs", "kv_mib"}
    assert set(account) == common | CONVENTIONS
    assert account["visual_tokens"] == [576, 288, 144, 72]
    assert flops("dpn", "--parts", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["dearest"]) == common | CONVENTIONS | {"parts", "kv"}
    assert document["cheapest"]["eq8"]["ratio"] < document["dearest"]["eq8"]["ratio"] == 1
    assert document["cheapest"]["macs"]["router"] > 0


def test_people_get_tables(capsys):
    assert flops("fastv", "--budget", "1/3") == 0
    printed = capsys.readouterr().out
    for part in ("0.289", "fastv at budget 0.3333", "every sample, G", "976.7", "0.3271", "125.8"):
        assert part in printed
    assert "cheapest" not in printed
    assert flops("dpn") == 0
    printed = capsys.readouterr().out
    for part in ("cheapest, G", "985.8", "ratio, dearest", "1.0000", "router"):
        assert part in printed


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fastw"], ["--method: unknown method 'fastw'", "did you mean 'fastv'"]),
        (["fastv", "method.kep=0.3"], ["no setting kep", "did you mean 'method.keep'"]),
        (["fastv", "method.keep=-1"], ["method.keep = -1"]),
        (["fastv", "method.keep=1.5"], ["keep = 1.5", "allowed"]),
        (["fastv", "method.sites=[40]"], ["method fastv", "40 is out of range", "0 to 31"]),
        (["fastv", "keep=0.3"], ["'keep=0.3'", "method.key=value"]),
        (["fastv", "train.steps=3"], ["'train.steps=3'", "method.key=value"]),
        (["fastv", "method.name=static"], ["'method.name=static'"]),
        (["fastv", "method.keep"], ["write key=value"]),
        (["fastv", "--budget", "0.01"], ["budget = 0.01 is out of reach", "0.072"]),
        (["fastv", "--budget", "2"], ["budget = '2'", "above 0 and up to 1"]),
        (["fastv", "--budget", "1/0"], ["budget = '1/0'"]),
        (["fastv", "--budget", "nan"], ["budget = 'nan'"]),
        (["fastv", "--budget", "half"], ["budget = 'half'"]),
        (["dpn", "--budget", "0.5"], ["dpn has no setting that turns its cost"]),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, parts):
    assert flops(*arguments, "--json") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for part in parts:
        assert part in captured.err


def test_it_loads_no_framework(repo_root):
    code = (
        "import sys; from dpn_platform.cli.main import run; "
        f"code = run(['flops', '--model', '{BASE}', '--method', 'fastv', '--budget', '1/3', '--json']); "
        "print(code, *sys.modules, file=sys.stderr)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root / "platform"), str(repo_root)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=repo_root)
    assert done.stderr.split()[0] == "0", done.stderr
    assert {name.split(".")[0] for name in done.stderr.split()}.isdisjoint({"torch", "transformers", "ray", "mlflow"})
