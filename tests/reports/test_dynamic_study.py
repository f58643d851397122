"""Studies: routes in a point's own table or as points of their own, the same proof; its section of the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dpn_platform.benchmarks.outcomes import encode_table
from dpn_platform.evaluation.points import Point
from dpn_platform.evaluation.result import EvaluationResult
from dpn_platform.reports.dynamic.prove import proofs_of_points
from dpn_platform.reports.study.build import study_record
from dpn_platform.reports.study.claims import claims_of
from dpn_platform.reports.study.page import report_page
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.source import is_study, points_of_trials, read_study
from dpn_platform.reports.study.table import front_table
from dpn_platform.storage import write_json
from tests.reports.dynamic_tables import CHEAP, COSTS, DEAR, Row, halves, knows_the_family, scores_of, table_of

FAMILIES = halves(200)
ROWS = table_of(FAMILIES, knows_the_family, scores_of(FAMILIES))


def point(folder: Path, name: str, method: str, rows: list[Row], **more: object) -> Point:
    uri = folder / f"{name}.parquet"
    uri.write_bytes(encode_table(rows))
    own = [row for row in rows if not row["variant"]]
    cost = sum(row["swiglu_macs"] for row in own) / sum(row["swiglu_dense"] for row in own)
    return Point(
        name=name,
        method=method,
        accuracy=sum(row["score"] for row in own) / len(own),
        accuracy_ci=(0.0, 1.0),
        flops_ratio={"swiglu": cost, "eq8": cost},
        visual_tokens_mean=64 * cost,
        outcomes_uri=str(uri),
        routes={"all": {CHEAP: 100, DEAR: 100}} if method == "dpn" else {},
        is_control=method != "dpn" or "params" in more,
        **more,  # type: ignore[arg-type]
    )


def controls(folder: Path) -> list[Point]:
    """The model without reduction and one pyramid of every size."""
    found = []
    for route, cost in COSTS.items():
        rows = table_of(FAMILIES, lambda place, family, fixed=route: fixed, scores_of(FAMILIES, seed=7))
        method = "dense" if route == DEAR else "static"
        # As in tables of earlier versions, whose method the point alone knows.
        own = [row | {"method": None, "checkpoint": f"c{cost}"} for row in rows if not row["variant"]]
        found.append(point(folder, f"{method}-{cost}", method, own))
    return found


def in_one_table(folder: Path) -> list[Point]:
    return [point(folder, "dpn-00", "dpn", ROWS)]


def as_points(folder: Path) -> list[Point]:
    """As studies hold them that ran every route as a trial."""
    of_variant = {route: f"route-{route.replace(',', '-')}" for route in COSTS}
    fixed = [
        point(
            folder,
            f"dpn-00-{variant}",
            "dpn",
            [row | {"variant": ""} for row in ROWS if row["variant"] == variant],
            params={"route": route},
        )
        for route, variant in of_variant.items()
    ]
    return [point(folder, "dpn-00", "dpn", [row for row in ROWS if not row["variant"]]), *fixed]


def test_both_forms_give_the_same_proof_and_the_same_claim(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    forms = [in_one_table(tmp_path / "a"), as_points(tmp_path / "b")]
    proofs = [proofs_of_points([*controls(tmp_path), *points], "swiglu") for points in forms]
    assert proofs[0] == proofs[1]
    (found,) = proofs[0]
    assert found.is_dynamic
    assert [one.name for one in found.pyramids] == ["static-400", "static-600", "dense-1000"]
    claims = [claims_of([*controls(tmp_path), *points], "swiglu") for points in forms]
    dealt = [next(claim for claim in of_form if claim.against == "own routes shuffled") for of_form in claims]
    assert dealt[0] == dealt[1]
    gain = found.gain("own routes shuffled")
    assert gain is not None
    assert (dealt[0].change.value, dealt[0].change.low) == (gain.value, gain.ci[0])


def test_points_of_a_dial_belong_to_the_checkpoint_that_they_turn(tmp_path: Path) -> None:
    """A trial evaluated again at a ratio of its dial, on the routes that its own table holds."""
    at_dial = table_of(FAMILIES, lambda place, family: CHEAP, scores_of(FAMILIES), budget=0.4)
    own = [row for row in at_dial if not row["variant"]]
    turned = point(tmp_path, "dpn-00-dial-0.4", "dpn", own, params={"dial": 0.4}, on="dpn-00")
    proofs = proofs_of_points([*in_one_table(tmp_path), turned], "swiglu")
    assert [(one.told, one.is_dynamic) for one in proofs] == [("dpn-00", True), ("dpn-00 at budget 0.4", False)]
    strange = [row | {"route": "4x4,4x4"} for row in own]
    turned = point(tmp_path, "dpn-00-dial-0.3", "dpn", strange, params={"dial": 0.3}, on="dpn-00")
    assert [one.told for one in proofs_of_points([*in_one_table(tmp_path), turned], "swiglu")] == ["dpn-00"]


def test_a_point_whose_routes_do_not_fit_has_no_proof(tmp_path: Path) -> None:
    broken = [row for row in ROWS if row["variant"] != f"route-{DEAR.replace(',', '-')}"]
    assert proofs_of_points([point(tmp_path, "dpn-00", "dpn", broken)], "swiglu") == ()
    assert proofs_of_points(controls(tmp_path), "swiglu") == ()
    gone = [one.model_copy(update={"outcomes_uri": str(tmp_path / "gone.parquet")}) for one in in_one_table(tmp_path)]
    assert proofs_of_points(gone, "swiglu") == ()


def test_the_studys_page_has_a_section_with_the_verdict(tmp_path: Path) -> None:
    constant = table_of(FAMILIES, lambda place, family: CHEAP, scores_of(FAMILIES))
    points = (*controls(tmp_path), *in_one_table(tmp_path), point(tmp_path, "dpn-01", "dpn", constant))
    record = study_record(StudyRecord("s", points), {})
    page = report_page(record, None)
    assert "Choice per sample" in page
    assert "dynamic: 1 of 2 checkpoints; not shown to be dynamic: 1 of 2 checkpoints." in page
    assert '<span class="chip good">dynamic</span>' in page
    assert '<span class="chip">not shown</span>' in page
    assert StudyRecord.from_json(record.to_json()).proofs == record.proofs
    assert "choice per sample, dynamic: 1 of 2" in str(front_table(record).caption)
    assert "Choice per sample" not in report_page(replace(record, proofs=()), None)


def test_a_record_with_a_broken_proof_is_refused_in_one_line(tmp_path: Path) -> None:
    record = study_record(StudyRecord("s", tuple(in_one_table(tmp_path))), {})
    document = record.to_json()
    document["proofs"][0].pop("accuracy")
    with pytest.raises(Exception, match=r"study.json: a point, a proof or the statistics cannot be read, accuracy"):
        StudyRecord.from_json(document)


def test_seeds_of_a_ledger_stay_apart(tmp_path: Path) -> None:
    """A record tells seeds as one point, with the outcomes of the first; each has a verdict of its own."""
    for seed, choose in enumerate((knows_the_family, lambda place, family: CHEAP)):
        key, folder = f"dpn-00-seed-{seed}", tmp_path / "evaluations" / str(seed)
        folder.mkdir(parents=True)
        (folder / "outcomes.parquet").write_bytes(encode_table(table_of(FAMILIES, choose, scores_of(FAMILIES))))
        result = EvaluationResult(
            key={"checkpoint_uri": key},
            benchmark="heldout",
            n=len(FAMILIES),
            accuracy=0.9,
            accuracy_ci=(0.8, 1.0),
            per_family={},
            flops_ratio={"swiglu": 0.7},
            visual_tokens_mean=40.0,
            routes={},
            outcomes_uri=str(folder / "outcomes.parquet"),
            result_uri=str(folder / "result.json"),
        )
        write_json(result.result_uri, result.to_json())
        trial = {"key": key, "state": "finished", "params": {"method.name": "dpn"}, "is_control": False, "run_id": None}
        write_json(f"{tmp_path}/study/trials/{key}.json", trial | {"evaluation_uri": str(folder)})
    place = str(tmp_path / "study")
    assert is_study(place)
    assert not is_study(str(tmp_path / "evaluations"))
    assert [one.name for one in points_of_trials(place)] == ["dpn-00-seed-0", "dpn-00-seed-1"]
    assert [(one.name, one.is_dynamic) for one in read_study(place).proofs] == [
        ("dpn-00-seed-0", True),
        ("dpn-00-seed-1", False),
    ]
