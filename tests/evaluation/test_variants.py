"""Variants of a checkpoint: each its own rows, all of them behind one run of the tower; what cannot be one."""

from itertools import product

import pytest
import torch

from dpn_model import calibrate
from dpn_platform.benchmarks.outcomes import read_table
from dpn_platform.benchmarks.statistics.scored_runs import read_runs
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.loading import load_ours
from dpn_platform.evaluation.answering.variants import Variant
from dpn_platform.evaluation.recorded_runs import read_recorded
from dpn_platform.reports.dynamic.prove import proofs_of
from dpn_platform.reports.dynamic.sources import materials_at

STATIC = {"name": "pooled", "method": {"name": "static", "kernel": "2x2"}}
DENSE = {"name": "unreduced", "method": {"name": "dense"}}


@pytest.fixture
def tower_calls(monkeypatch):
    """How many pictures went through any vision tower."""
    from dpn_platform.evaluation.answering.remembered_images import RememberedImages

    seen = []
    learn = RememberedImages.learn

    def counted(self, model, pixel_values):
        before = len(self._features)
        learn(self, model, pixel_values)
        seen.append(len(self._features) - before)

    monkeypatch.setattr(RememberedImages, "learn", counted)
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


def test_a_trained_part_serves_other_settings_with_the_same_weights(save_checkpoint, evaluated, rows_table, tmp_path):
    model, processor = load_ours(save_checkpoint(name="vispco", budget=0.6))
    for weight in [weight for part in model.parts.all() for weight in part.parameters()]:
        torch.nn.init.normal_(weight, std=0.3)  # attaching draws what the checkpoint was drawn with
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    folder = str(tmp_path)
    variants = [{"name": f"b{budget}", "method": {"name": "vispco", "budget": budget}} for budget in (0.6, 0.4)]
    result = evaluated(folder, rows_table, variants=variants)
    rows = read_table(result.outcomes_uri)
    itself, same, less = ([row for row in rows if row["variant"] == name] for name in ("", "b0.6", "b0.4"))
    same, itself = ([{**row, "settings": ""} for row in plain(rows)] for rows in (same, itself))
    assert same == itself, "the weights are those that were trained"
    assert sum(row["swiglu_macs"] for row in less) < sum(row["swiglu_macs"] for row in itself)
    with pytest.raises(DpnError, match="variant 'other': method dpn has weights, which were not trained here"):
        evaluated(folder, rows_table, variants=[{"name": "other", "method": {"name": "dpn"}}])


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


def test_every_route_is_what_its_own_run_gives(save_checkpoint, evaluated, rows_table, tower_calls):
    folder = save_checkpoint(name="dpn", scaling="off")
    result = evaluated(folder, rows_table, routes="all")
    assert sum(tower_calls) == sum(rows_table.column("has_image").to_pylist()), "each picture once, for all routes"
    names = ["-".join(route) for route in product(("1x1", "1x2", "2x2"), repeat=3)]
    assert [one["name"] for one in result.variants] == ["", *(f"route-{name}" for name in names)]
    rows = read_table(result.outcomes_uri)
    assert plain([row for row in rows if not row["variant"]]) == plain(
        read_table(evaluated(folder, rows_table).outcomes_uri)
    ), "the checkpoint as it is does not notice its routes"
    for name in (names[0], names[5], names[26]):
        route = tuple(name.split("-"))
        walked = [row for row in rows if row["variant"] == f"route-{name}"]
        alone = read_table(evaluated(folder, rows_table, main=Variant(route=route)).outcomes_uri)
        assert plain(walked) == plain(alone)
        assert {row["route"] for row in walked if row["has_image"]} == {",".join(route)}
        assert all(row["latency_ms"] is None for row in walked), "nobody can say what one of them took"
    assert {one["cost"]["prefill_ms"] for one in result.variants[1:]} == {None}


def test_a_proof_reads_the_routes_of_one_evaluation(save_checkpoint, evaluated, rows_table):
    """Untrained routers prove nothing; what matters is that every route and cost is found."""
    result = evaluated(save_checkpoint(name="dpn", scaling="off"), rows_table, routes="all")
    (material,) = materials_at(result.outcomes_uri)
    (proof,) = proofs_of(material)
    assert {route.name for route in proof.routes} == {",".join(one) for one in product(("1x1", "1x2", "2x2"), repeat=3)}
    assert proof.cost == pytest.approx(result.flops_ratio["swiglu"])
    assert [route.cost for route in proof.routes] == sorted(route.cost for route in proof.routes)
    assert proof.warnings == (), "own outcomes are those of the routes that were taken"
    assert proof.accuracy == pytest.approx(result.accuracy)


def test_routes_that_are_no_tree_are_run_one_after_the_other(save_checkpoint, evaluated, rows_table):
    folder = save_checkpoint(name="avg_llava", experts=["1x1", "2x2", "4x4"])
    result = evaluated(folder, rows_table, routes="all")
    assert [one["name"] for one in result.variants] == ["", "route-1x1", "route-2x2", "route-4x4"]
    assert {
        row["route"] for row in read_table(result.outcomes_uri) if row["variant"] == "route-4x4" and row["has_image"]
    } == {"4x4"}


def test_routes_of_what_has_none_are_refused(save_checkpoint, evaluated, rows_table):
    message = r"eval.routes = all, but its method takes no routes; allowed: method dpn, avg_llava"
    with pytest.raises(DpnError, match=message):
        evaluated(save_checkpoint(name="static", kernel="2x2"), rows_table, routes="all")
    many = save_checkpoint(name="dpn", sites=(1, 2, 3, 4, 5, 6))
    with pytest.raises(DpnError, match="a checkpoint with 729 routes; allowed: up to 256"):
        evaluated(many, rows_table, routes="all")


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
