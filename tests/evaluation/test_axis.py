"""The accuracy axis of a study: one benchmark, a named mean, the paper's average; what is refused."""

import pytest

from dpn_platform.config.errors import ConfigError, DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.evaluation.axis import PAPER_COLUMNS, axis_of


def settings(**changes):
    return parse_config({"name": "x", "eval": changes}, "test").eval


def score(accuracy, half=0.1):
    return {"accuracy": accuracy, "accuracy_ci": (accuracy - half, accuracy + half)}


def test_by_default_the_first_benchmark_is_the_axis():
    assert axis_of(settings()).benchmarks == ("heldout",)
    axis = axis_of(settings(benchmarks=[{"name": "GQA", "root": "s3://b/eval"}, "heldout"]))
    assert (axis.name, axis.benchmarks) == ("gqa", ("gqa",))
    assert axis.value({"gqa": score(0.6), "heldout": score(0.1)}) == (0.6, (0.5, 0.7))


def test_a_mean_weighs_its_benchmarks_alike():
    mean = {"name": "mine", "of": ["gqa", "pope"]}
    axis = axis_of(settings(benchmarks=["gqa", "pope", "heldout"], accuracy=mean))
    value, (low, high) = axis.value({"gqa": score(0.6, 0.03), "pope": score(0.8, 0.04), "heldout": score(0.0)})
    assert (axis.name, value) == ("mine", pytest.approx(0.7))
    assert (low, high) == pytest.approx((0.7 - 0.025, 0.7 + 0.025)), "half widths of 3 and 4 points add as squares"


def test_the_paper_s_average():
    # LLaVA-1.5-7B of table 1: GQA 62.0, SQA 66.8, VQAT 58.2, VQAv2 78.5, MME 1510.7, MM-Vet 30.5, MMB 64.3, POPE 85.9.
    printed = dict(zip(PAPER_COLUMNS, (62.0, 66.8, 58.2, 78.5, 1510.7 / 20, 30.5, 64.3, 85.9), strict=True))
    axis = axis_of(settings(benchmarks=list(PAPER_COLUMNS), accuracy="AVG"))
    value, _ = axis.value({name: score(points / 100) for name, points in printed.items()})
    assert 100 * value == pytest.approx(sum(printed.values()) / 8)
    assert round(100 * value, 1) == 65.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmarks": ["gqqa"]}, "benchmark 'gqqa' is unknown .did you mean 'gqa'"),
        ({"accuracy": "pope"}, "eval.accuracy pope: pope is not evaluated; eval.benchmarks lists heldout"),
        ({"benchmarks": ["gqa"], "accuracy": "AVG"}, "eval.accuracy AVG: scienceqa-img, textvqa, .* is not evaluated"),
        ({"benchmarks": ["gqa"], "accuracy": {"name": "m", "of": ["gqa", "pope"]}}, "m: pope is not evaluated"),
    ],
)
def test_axes_that_cannot_be(changes, message):
    with pytest.raises(DpnError, match=message) as error:
        axis_of(settings(**changes))
    assert "\n" not in str(error.value)


def test_a_benchmark_without_public_gold_is_no_axis():
    with pytest.raises(DpnError, match="eval.accuracy vizwiz: vizwiz was not scored .its gold is private"):
        axis_of(settings(benchmarks=["vizwiz"])).value({})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmarks": ["gqa", "gqa"]}, "'gqa' is listed twice"),
        ({"benchmarks": []}, "eval.benchmarks"),
        ({"benchmarks": [{"name": "gqa", "rot": "s3://b"}]}, "rot"),
        ({"budgets": [1.2]}, "less than or equal to 1"),
        ({"budgets": [0.4, 0.4]}, "one is given twice"),
        ({"variants": [{"name": "a", "method": {"kernel": "2x2"}}]}, "needs the key name"),
    ],
)
def test_settings_that_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        settings(**changes)
