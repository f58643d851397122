"""The held-out split on a tiny model: one question per row, cost and route as the model itself reports them."""

import pytest
import torch

from dpn_platform import storage
from dpn_platform.benchmarks.outcomes import SCHEMA, read_table
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import parse_config
from dpn_platform.data.published.schema import shard_table
from dpn_platform.evaluation.answering.loading import load_ours
from dpn_platform.evaluation.run import evaluate


@pytest.fixture
def rows_of(evaluated, save_checkpoint):
    """(method, table, settings) -> the rows of the outcome table."""

    def make(method, table, **settings):
        return read_table(evaluated(save_checkpoint(**method), table, **settings).outcomes_uri)

    return make


def test_every_row_is_answered_in_order(rows_of, rows_table):
    rows = rows_of({"name": "dpn"}, rows_table)
    assert list(rows[0]) == SCHEMA.names
    assert [row["place"] for row in rows] == list(range(100, 112))
    assert [row["question_id"] for row in rows] == rows_table.column("id").to_pylist()
    assert [row["family"] for row in rows] == rows_table.column("source").to_pylist()
    assert {row["gold"] for row in rows} == {"red"}, "only the first turn is asked"
    assert not any("<image>" in row["question"] for row in rows)
    assert {(row["benchmark"], row["variant"], row["method"], row["budget"]) for row in rows} == {
        ("heldout", "", "dpn", None)
    }
    assert [row["unit"] for row in rows] == [row["image_sha"] for row in rows]


@pytest.mark.parametrize("method", [{"name": "dense"}, {"name": "static", "kernel": "2x2"}, {"name": "dpn"}])
def test_batching_changes_nothing(rows_of, rows_table, method):
    few, many = (rows_of(method, rows_table, batch_size=size) for size in (5, 64))
    varying = ("latency_ms", "checkpoint")
    plain = [[{name: row[name] for name in row if name not in varying} for row in rows] for rows in (few, many)]
    assert plain[0] == plain[1]


def test_answers_are_the_model_s_own(save_checkpoint, evaluated, rows_table):
    folder = save_checkpoint(name="dpn")
    rows = read_table(evaluated(folder, rows_table).outcomes_uri)
    model, processor = load_ours(folder)
    for row in (one for one in rows if not one["has_image"]):
        inputs = processor([row["question"]], [None], router=True)
        ids = model.generate(**inputs, max_new_tokens=3, eos_token_id=processor.end_ids)
        assert row["answer"] == processor.decode(ids[0, inputs["input_ids"].shape[1] :].tolist())
        assert row["swiglu_macs"] == model.last_routing.prefill_cost(0, "swiglu").total


def test_questions_about_several_pictures_are_answered(rows_of, rows_table):
    rows = rows_table.to_pylist()
    pictures = [row["image"] for row in rows if row["has_image"]]
    ask = '[{"from": "human", "value": "<image> <image> how many ?"}, {"from": "gpt", "value": "two"}]'
    several = {**rows[1], "conversations": ask, "more_images": [pictures[1]]}
    both = rows_of({"name": "dense"}, shard_table([several, {**rows[2], "row_id": 102}]))
    assert [row["visual_tokens_mean"] for row in both] == [128, 64]
    assert both[0]["question"] == "how many ?"
    other = rows_of({"name": "dense"}, shard_table([{**several, "more_images": [pictures[2]]}]))
    assert other[0]["image_sha"] != both[0]["image_sha"]


def test_dense_costs_what_it_costs(rows_of, rows_table):
    for row in rows_of({"name": "dense"}, rows_table):
        assert row["route"] == ""
        assert row["swiglu_macs"] == row["swiglu_dense"] > 0
        assert row["eq8_macs"] == row["eq8_dense"]
        assert (row["eq8_dense"] > 0) == row["has_image"]
        assert row["visual_tokens_mean"] == (64 if row["has_image"] else 0)


def test_static_pooling_quarters_the_tokens_at_every_site(rows_of, rows_table):
    with_image = [row for row in rows_of({"name": "static", "kernel": "2x2"}, rows_table) if row["has_image"]]
    assert {row["route"] for row in with_image} == {"2x2,2x2,2x2"}
    assert {tuple(row["visual_tokens"]) for row in with_image} == {(64, 16, 4, 1)}


def test_a_part_of_the_split_is_scored_and_a_complete_result_is_not_repeated(
    save_checkpoint, publish, rows_table, tmp_path
):
    folder = save_checkpoint(name="dense")
    config = parse_config({"name": "e", "data": {"uri": publish(rows_table)}, "eval": {"limit": 5}}, "test")
    first = evaluate(folder, config, output_uri=str(tmp_path), in_this_process=True)
    assert (first.n, first.benchmark, first.about["shards"]["answered_now"]) == (5, "small", 1)
    assert first.scores["heldout"]["unit"] == "fraction"
    stamp = (tmp_path / "result.json").stat().st_mtime_ns
    assert evaluate(folder, config, output_uri=str(tmp_path), in_this_process=True).to_json() == first.to_json()
    assert (tmp_path / "result.json").stat().st_mtime_ns == stamp
    again = evaluate(folder, config, output_uri=str(tmp_path), in_this_process=True, force=True)
    assert again.about["shards"]["answered_now"] == 1


def test_an_interrupted_evaluation_goes_on(save_checkpoint, publish, rows_table, tmp_path):
    folder, data = save_checkpoint(name="dense"), publish(rows_table)
    config = parse_config({"name": "e", "data": {"uri": data}}, "test")
    whole = evaluate(folder, config, output_uri=str(tmp_path), in_this_process=True)
    (tmp_path / "result.json").unlink()
    resumed = evaluate(folder, config, output_uri=str(tmp_path), in_this_process=True)
    assert resumed.about["shards"] == {"all": 1, "answered_now": 0}
    assert resumed.accuracy == whole.accuracy
    assert storage.exists(resumed.about["answers_uri"])


def test_what_is_not_there_is_named(save_checkpoint, publish, rows_table):
    data = publish(rows_table)
    folder = save_checkpoint(name="dense")
    for settings, message in (
        ({"eval_split": "val"}, "no split 'val'"),
        ({"uri": f"{data}/none"}, "no data set is published"),
    ):
        config = parse_config({"name": "e", "data": {"uri": data, **settings}}, "test")
        with pytest.raises(DpnError, match=message):
            evaluate(folder, config, in_this_process=True)


def test_threads_are_set(save_checkpoint, publish, rows_table, tmp_path):
    before = torch.get_num_threads()
    settings = {"name": "e", "data": {"uri": publish(rows_table)}, "train": {"threads_per_worker": 1}}
    try:
        evaluate(save_checkpoint(name="dense"), parse_config(settings), output_uri=str(tmp_path), in_this_process=True)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
