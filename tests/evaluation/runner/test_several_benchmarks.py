"""Several benchmarks in one evaluation: one table, every headline, the axis's accuracy and cost."""

import pytest

from dpn_platform.benchmarks.outcomes import read_table
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.evaluation import scoring
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.evaluation.run import evaluate, read_result


@pytest.fixture
def evaluated_on(save_checkpoint, publish, rows_table, small_set, tmp_path):
    """(settings of `eval`) -> the result on the held-out rows and a miniature GQA."""
    small_set("gqa", "llava")
    gqa = {"name": "gqa", "root": str(tmp_path / "set")}
    folder, data = save_checkpoint(name="static"), publish(rows_table)

    def make(**settings) -> EvaluationResult:
        values = {"benchmarks": ["heldout", gqa], **settings}
        config = parse_config({"name": "e", "data": {"uri": data}, "eval": values}, "test")
        return evaluate(folder, config, output_uri=str(tmp_path / "out"), in_this_process=True)

    return make


def test_the_first_benchmark_is_the_axis_and_every_headline_is_kept(evaluated_on):
    result = evaluated_on()
    assert (result.benchmark, result.n, list(result.scores)) == ("small", 12, ["heldout", "gqa"])
    assert (result.scores["heldout"]["unit"], result.scores["gqa"]["unit"]) == ("fraction", "percent")
    rows = read_table(result.outcomes_uri)
    held_out = [row for row in rows if row["benchmark"] == "heldout"]
    assert result.flops_ratio == scoring.flops_ratios(held_out)
    assert {row["benchmark"] for row in rows} == {"heldout", "gqa"}
    metrics = result.metrics()
    assert metrics["eval/small/accuracy"] == result.accuracy
    assert metrics["eval/gqa/accuracy"] == result.scores["gqa"]["value"]
    again = read_result(result.result_uri.rpartition("/")[0], result.key)
    assert again is not None
    assert again.to_json() == result.to_json()
    point = result.to_point("a", "static", params={}, is_control=True)
    assert point.scores["gqa"]["n"] == result.scores["gqa"]["n"]


def test_a_mean_is_over_its_benchmarks_and_so_is_its_cost(evaluated_on):
    result = evaluated_on(accuracy={"name": "both", "of": ["gqa", "heldout"]})
    parts = [one["accuracy"] for one in result.scores.values()]
    assert (result.benchmark, result.accuracy) == ("both", sum(parts) / 2)
    rows = read_table(result.outcomes_uri)
    assert result.flops_ratio == scoring.flops_ratios(rows)
    assert set(result.per_family) == set(result.routes) == {"heldout", "gqa"}
    assert result.metrics()["eval/both/accuracy"] == result.accuracy


def test_an_axis_that_a_limit_cuts_is_refused(evaluated_on):
    with pytest.raises(DpnError, match="eval.accuracy gqa: gqa was not scored .*leave out eval.limit"):
        evaluated_on(accuracy="gqa", limit=2)
