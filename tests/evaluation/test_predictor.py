"""The predictor on a tiny model: order kept, one question per row, cost and route as the model itself reports them."""

import pytest
import torch

from dpn_platform.data.published.schema import shard_table
from dpn_platform.evaluation.predictor import PREDICTION_SCHEMA, Predictor, PredictorSettings


def predict(folder, table, batch_size=64):
    return Predictor(PredictorSettings(folder, batch_size=batch_size, max_new_tokens=3))(table)


def test_every_row_is_answered_in_order(save_checkpoint, rows_table):
    predictions = predict(save_checkpoint(name="dpn"), rows_table)
    assert predictions.schema == PREDICTION_SCHEMA
    assert predictions.column("row_id").to_pylist() == list(range(100, 112))
    assert predictions.column("family").to_pylist() == rows_table.column("source").to_pylist()
    assert set(predictions.column("gold").to_pylist()) == {"red"}, "only the first turn is asked"
    assert not any("<image>" in question for question in predictions.column("question").to_pylist())


@pytest.mark.parametrize("method", [{"name": "dense"}, {"name": "static", "kernel": "2x2"}, {"name": "dpn"}])
def test_batching_changes_nothing(save_checkpoint, rows_table, method):
    folder = save_checkpoint(**method)
    assert predict(folder, rows_table, batch_size=5).equals(predict(folder, rows_table, batch_size=64))


def test_questions_about_several_pictures_are_answered(save_checkpoint, rows_table):
    rows = rows_table.to_pylist()
    pictures = [row["image"] for row in rows if row["has_image"]]
    ask = '[{"from": "human", "value": "<image> <image> how many ?"}, {"from": "gpt", "value": "two"}]'
    several = {**rows[1], "conversations": ask, "more_images": [pictures[1]]}
    folder = save_checkpoint(name="dense")
    both = predict(folder, shard_table([several, rows[2], rows[0]])).to_pylist()

    assert [row["visual_tokens_mean"] for row in both] == [128, 64, 0]
    other = predict(folder, shard_table([{**several, "more_images": [pictures[2]]}])).to_pylist()
    assert other[0]["image_sha"] != both[0]["image_sha"]
    assert predict(folder, shard_table([several])).to_pylist() == both[:1]


def test_dense_costs_what_it_costs(save_checkpoint, rows_table):
    predictions = predict(save_checkpoint(name="dense"), rows_table).to_pylist()
    for row in predictions:
        assert row["route"] == ""
        assert row["swiglu_macs"] == row["swiglu_dense"] > 0
        assert row["eq8_macs"] == row["eq8_dense"]
        assert (row["eq8_dense"] > 0) == row["has_image"]
        assert row["visual_tokens_mean"] == (64 if row["has_image"] else 0)


def test_static_pooling_quarters_the_tokens_at_every_site(save_checkpoint, rows_table):
    predictions = predict(save_checkpoint(name="static", kernel="2x2"), rows_table).to_pylist()
    with_image = [row for row in predictions if row["has_image"]]
    assert {row["route"] for row in with_image} == {"2x2,2x2,2x2"}
    assert {tuple(row["visual_tokens"]) for row in with_image} == {(64, 16, 4, 1)}


def test_costs_are_those_of_the_model_s_own_report(save_checkpoint, rows_table):
    predictor = Predictor(PredictorSettings(save_checkpoint(name="dpn"), batch_size=64, max_new_tokens=1))
    predictions = predictor(rows_table).to_pylist()
    by_length = sorted(range(12), key=lambda n: (predictions[n]["has_image"], rows_table["text_length"][n].as_py()))
    routing = predictor.model.last_routing
    for convention in ("eq8", "swiglu"):
        costs = [routing.prefill_cost(sample, convention) for sample in range(routing.num_samples)]
        for place, cost in zip(by_length, costs, strict=True):
            assert predictions[place][f"{convention}_macs"] == cost.total


def test_threads_are_set(save_checkpoint):
    before = torch.get_num_threads()
    try:
        Predictor(PredictorSettings(save_checkpoint(name="dense"), batch_size=1, max_new_tokens=1, num_threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
