"""Variants of a checkpoint: each its own rows, all of them behind one run of the tower; what cannot be one."""

import pytest
import torch

from dpn_model import calibrate
from dpn_platform.benchmarks.outcomes import read_table
from dpn_platform.benchmarks.statistics.scored_runs import read_runs
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.loading import load_ours
from dpn_platform.evaluation.recorded_runs import read_recorded

STATIC = {"name": "pooled", "method": {"name": "static", "kernel": "2x2"}}
DENSE = {"name": "unreduced", "method": {"name": "dense"}}


@pytest.fixture
def tower_calls(monkeypatch):
    """How many pictures went through any vision tower."""
    from dpn_platform.evaluation.answering import packed_model

    seen = []
    learn = packed_model.RememberedImages.learn

    def counted(self, model, pixel_values):
        before = len(self._features)
        learn(self, model, pixel_values)
        seen.append(len(self._features) - before)

    monkeypatch.setattr(packed_model.RememberedImages, "learn", counted)
    return seen


def plain(rows):
    varying = ("variant", "latency_ms", "checkpoint")
    return [{name: value for name, value in row.items() if name not in varying} for row in rows]


def test_variants_share_the_tower_and_have_their_own_rows(save_checkpoint, evaluated, rows_table, tower_calls):
    folder = save_checkpoint(name="dpn")
    result = evaluated(folder, rows_table, variants=[STATIC, DENSE])
    assert sum(tower_calls) == sum(rows_table.column("has_image").to_pylist()), "each picture once, for all variants"
    rows = read_table(result.outcomes_uri)
    by_variant = {name: [row for row in rows if row["variant"] == name] for name in ("", "pooled", "unreduced")}
    assert [one["name"] for one in result.variants] == list(by_variant)
    assert {row["route"] for row in by_variant["pooled"] if row["has_image"]} == {"2x2,2x2,2x2"}
    assert result.variants[2]["flops_ratio"]["swiglu"] == 1.0 > result.variants[1]["flops_ratio"]["swiglu"]
    assert {row["method"] for row in by_variant["pooled"]} == {"static"}
    assert result.variants[0]["accuracy"] == result.accuracy

    alone = read_table(evaluated(folder, rows_table).outcomes_uri)
    assert plain(by_variant[""]) == plain(alone), "the checkpoint as it is does not notice its variants"
    assert len(read_recorded(result.outcomes_uri, "pooled").rows) == 12
    [run] = read_runs([result.outcomes_uri])
    assert len(run.benchmarks["heldout"]) == 12, "of the checkpoint as it is"


def test_one_learned_projector_at_several_numbers_of_tokens(save_checkpoint, evaluated, rows_table):
    fewer = [{"name": f"m{keep}", "method": {"name": "mqt", "keep": keep}} for keep in (16, 2)]
    other = [{"name": "other", "method": {"name": "mqt", "queries": 16}}]
    folder = save_checkpoint(name="mqt")
    result = evaluated(folder, rows_table, variants=fewer)
    ratios = [one["flops_ratio"]["eq8"] for one in result.variants]
    assert 1 > ratios[0] > ratios[1] > ratios[2] > 0, "against the base's patches"
    with pytest.raises(DpnError, match="variant 'other': this model was made with a projector of its own"):
        evaluated(folder, rows_table, variants=other)


def test_budgets_of_the_dial(save_checkpoint, evaluated, rows_table, tmp_path):
    folder = save_checkpoint(name="dpn")
    with pytest.raises(DpnError, match=r"budget 0\.4 needs a calibrated dial"):
        evaluated(folder, rows_table, budgets=[0.4])
    model, processor = load_ours(folder)
    pixels = torch.rand(4, 3, processor.image_size, processor.image_size)
    batch = processor(["<image>\nwhat ?"] * 4, [torch_picture(one) for one in pixels], router=True)
    calibrate(model.eval(), [batch])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    result = evaluated(str(tmp_path), rows_table, budgets=[0.4, 0.8])
    assert [one["budget"] for one in result.variants] == [None, 0.4, 0.8]
    small, large = (one["flops_ratio"]["eq8"] for one in result.variants[1:])
    assert small < large
    assert {row["budget"] for row in read_table(result.outcomes_uri)} == {None, 0.4, 0.8}


def torch_picture(pixels):
    from PIL import Image

    return Image.fromarray((255 * pixels).byte().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([{"name": "a", "method": {"name": "dpn"}}], "variant 'a': method dpn has weights"),
        ([{"name": "a", "method": {"name": "statik"}}], "variant 'a': "),
        ([STATIC, STATIC], "'pooled' is given twice"),
    ],
)
def test_what_is_no_variant(save_checkpoint, evaluated, rows_table, variants, message):
    with pytest.raises(DpnError, match=message) as error:
        evaluated(save_checkpoint(name="dense"), rows_table, variants=variants)
    assert "\n" not in str(error.value)
