"""Outcomes that do not fit together, or not at all: one line each. What fits though it is unusual."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpn_platform.benchmarks.outcomes import encode_table
from dpn_platform.config.errors import DpnError
from dpn_platform.reports.dynamic.material import material_of
from dpn_platform.reports.dynamic.prove import proofs_of
from dpn_platform.reports.dynamic.sources import materials_at, short_names
from dpn_platform.storage import write_json
from tests.reports.dynamic_tables import CHEAP, DEAR, Row, halves, knows_the_family, scores_of, table_of

FAMILIES = halves(40)
ROWS = table_of(FAMILIES, knows_the_family, scores_of(FAMILIES))
OTHER = f"route-{DEAR.replace(',', '-')}"


def changed(variant: str, **columns: object) -> list[Row]:
    """The table with other values in one variant."""
    return [row | columns if row["variant"] == variant else row for row in ROWS]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row for row in ROWS if not row["variant"]], "no outcomes per route; make them: dpn evaluate CHECKPOINT"),
        ([row for row in ROWS if row["variant"]], "no outcomes of the checkpoint as it is"),
        (
            changed(OTHER, checkpoint="xyz"),
            f"route {DEAR} was measured with checkpoint xyz, its own outcomes are of abc",
        ),
        (
            [row for row in ROWS if row["variant"] != OTHER or row["place"]],
            "answers other questions than the method's own",
        ),
        (
            changed(OTHER, question_id="another"),
            "answers other questions than the method's own outcomes (40, heldout 0)",
        ),
        (changed(OTHER, gold="no"), "answers other questions"),
        ([row for row in ROWS if row["variant"] != OTHER], f"20 samples took route {DEAR}, which was not measured"),
        ([row | {"score": None} for row in ROWS], "none of its answers was scored"),
        (ROWS + ROWS, "2 outcomes of one question"),
        ([*ROWS, ROWS[0] | {"checkpoint": "xyz"}], "outcomes of 2 checkpoints in one table"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(rows: list[Row], words: str) -> None:
    with pytest.raises(DpnError) as refusal:
        proofs_of(material_of("runs/x", rows))
    assert words in str(refusal.value)
    assert str(refusal.value).startswith("runs/x")
    assert "\n" not in str(refusal.value)


def test_one_route_alone_claims_nothing() -> None:
    rows = table_of(FAMILIES, lambda place, family: CHEAP, scores_of(FAMILIES), {CHEAP: 400})
    (found,) = proofs_of(material_of("x", rows))
    assert found.gains == ()
    assert found.verdict == f"has one route ({CHEAP}): nothing is chosen per sample, so nothing is claimed"


def test_costs_that_were_not_counted_prove_nothing() -> None:
    rows = [row | {"swiglu_macs": None, "swiglu_dense": None} for row in ROWS]
    (found,) = proofs_of(material_of("x", rows))
    assert not found.is_dynamic
    assert "its costs were not counted" in found.verdict
    assert found.cost is None


def test_questions_without_picture_take_no_route() -> None:
    bare = [
        row | {"has_image": False, "route": "", "image_sha": None} if row["place"] % 4 == 0 else row for row in ROWS
    ]
    (found,) = proofs_of(material_of("x", bare))
    assert sum(route.share for route in found.routes) == pytest.approx(1.0)
    assert {route.name: route.share for route in found.routes if route.share} == pytest.approx(
        {CHEAP: 1 / 3, DEAR: 2 / 3}
    )


def test_scores_that_are_no_mean_are_told() -> None:
    (found,) = proofs_of(material_of("x", [row | {"benchmark": "pope"} for row in ROWS]))
    assert found.warnings == ("pope: the share of right answers is compared, not the headline",)


def test_routes_that_answer_otherwise_than_when_they_were_taken_are_told() -> None:
    other = [row | {"score": 1 - row["score"]} if not row["variant"] and row["place"] < 3 else row for row in ROWS]
    (found,) = proofs_of(material_of("x", other))
    assert found.warnings[0].startswith("3 of 40 samples score otherwise on the route that they took")


def test_evaluations_of_a_checkpoint_are_found_beside_it(tmp_path: Path) -> None:
    """Its benchmarks are taken together; another checkpoint's evaluation is not."""
    checkpoint = tmp_path / "run" / "export"
    checkpoint.mkdir(parents=True)
    (checkpoint / "config.json").write_text("{}")
    for name, benchmark, of in (("a", "gqa", checkpoint), ("b", "textvqa", checkpoint), ("c", "gqa", tmp_path)):
        folder = tmp_path / "run" / "evaluation" / name
        folder.mkdir(parents=True)
        (folder / "outcomes.parquet").write_bytes(encode_table([row | {"benchmark": benchmark} for row in ROWS]))
        write_json(f"{folder}/result.json", {"key": {"checkpoint_uri": of.as_uri()}})
    (found,) = materials_at(str(checkpoint))
    assert {row["benchmark"] for row in found.own} == {"gqa", "textvqa"}
    assert len(found.on_routes[CHEAP]) == 80
    with pytest.raises(DpnError, match="no outcomes there; make them: dpn evaluate CHECKPOINT --routes all"):
        materials_at(str(tmp_path / "run" / "nothing"))


def test_names_are_as_long_as_they_must_be() -> None:
    assert short_names(["runs/a/eval/x", "runs/b/eval/x"]) == ["a/eval/x", "b/eval/x"]
    assert short_names(["runs/a", "runs/b"]) == ["a", "b"]
    assert short_names(["same", "same"]) == ["same", "same"]
