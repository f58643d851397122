"""`dpn report routing` and `dpn report pictures`: documents, files, pictures, one line for every mix-up."""

import base64
import csv
import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dpn_platform.cli import main
from dpn_platform.evaluation.image_statistics import image_statistics
from dpn_platform.evaluation.recorded_runs import gallery_entry
from dpn_platform.reports.routing.figure import route_labels

ROUTES = {"2x2,1x1": (64, 16, 16), "1x2,1x1": (64, 32, 32), "1x1,1x1": (64, 64, 64)}


def png_of(number):
    pixels = np.random.default_rng(number).integers(0, 255, (8, 8 + number, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def sample(number, route, *, has_router=True):
    """Questions 0 and 1 ask about picture 0, 2 and 3 about picture 1, and so on; the second one is the harder."""
    tokens = ROUTES[route]
    picture = png_of(number // 2)
    row = {"row_id": number, "id": f"s{number}", "has_image": True, "has_router": has_router, "route": route}
    row |= {"family": ("colour", "reading")[number % 2], "difficulty": ("easy", "hard")[number % 2], "sites": [2, 4]}
    row |= {"question": f"what is in picture {number} ?", "gold": "red", "answer": "red", "correct": number % 3 > 0}
    row |= {"visual_tokens": list(tokens), "visual_tokens_mean": sum(tokens) / 3, "image_sha": f"picture {number // 2}"}
    return row | image_statistics(Image.open(io.BytesIO(picture)))


@pytest.fixture
def evaluations(tmp_path, monkeypatch):
    """A model with routers that pools the easy questions more, and a static rival; both keep their pictures."""
    monkeypatch.chdir(tmp_path)
    routes = list(ROUTES)
    runs = {
        "dpn": [sample(n, routes[2 * (n % 2)] if n != 3 else routes[1]) for n in range(8)],
        "static": [sample(n, routes[0], has_router=False) for n in range(8)],
    }
    for name, rows in runs.items():
        for row in rows:
            row["image_sha"] = hashlib.sha256(png_of(row["row_id"] // 2)).hexdigest()[:16]
        folder = tmp_path / name
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / "predictions.parquet")
        examples = [gallery_entry({**row, "score": float(row["correct"])}, png_of(row["row_id"] // 2)) for row in rows]
        key = {"checkpoint_uri": f"runs/{name}"}
        (folder / "result.json").write_text(json.dumps({"benchmark": "demo", "key": key, "examples": examples}))
    return [str(tmp_path / name) for name in runs]


def document_of(capsys, *arguments):
    assert main.run(["report", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert main.run(["report", *arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_routing(capsys, evaluations, tmp_path):
    document = document_of(capsys, "routing", evaluations[0], "--out", "r")
    assert list(document["groups"]) == ["all", "colour", "reading"]
    assert document["groups"]["colour"]["routes"] == {"2x2,1x1": {"n": 4, "share": 1.0}}
    assert document["groups"]["reading"]["distinct_routes"] == 2
    assert document["difficulty"]["easy"]["keep_ratio"] < document["difficulty"]["hard"]["keep_ratio"]
    same = document["same_image"]
    assert (same["pairs"], same["simpler_pooled_more"], same["sign_test_p"]) == (4, 4, 2 / 16)
    assert document["image"]["image_pixels"]["spearman"] is not None
    assert json.loads((tmp_path / "r/routing.json").read_text()) == {k: v for k, v in document.items() if k != "files"}
    lines = list(csv.DictReader((tmp_path / "r/routing.csv").open()))
    assert [line["n"] for line in lines if line["statistic"] == "route" and line["group"] == "colour"] == ["4"]
    with Image.open(tmp_path / "r/routing.png") as figure:
        assert figure.width == 1950
        drawn = np.asarray(figure.convert("RGB")).reshape(-1, 3)
    assert (drawn == (0x0F, 0x76, 0x6E)).all(axis=1).sum() > 10_000, "the bars are there"


def test_routing_of_several_benchmarks_for_people(capsys, evaluations):
    assert main.run(["report", "routing", evaluations[0], evaluations[0] + "/predictions.parquet"]) == 0
    printed = capsys.readouterr()
    for part in ("demo (1)", "demo (2)", "4,1 50%", "question type", "edge density"):
        assert part in printed.out
    assert "simpler question: pooled more 4" in " ".join(printed.err.split())


def test_routing_needs_routers(capsys, evaluations):
    message = refused(capsys, "routing", evaluations[1])
    assert "the model runs/static has no routers" in message
    assert "method dpn" in message


def test_routes_of_equal_area_are_told_apart():
    def groups(*routes):
        return {"all": {"routes": dict.fromkeys(routes)}}

    assert route_labels(groups("2x2,1x2", "1x1,1x1")) == {"2x2,1x2": "4,2", "1x1,1x1": "1,1"}
    assert route_labels(groups("1x2", "2x1")) == {"1x2": "1x2", "2x1": "2x1"}


def test_pictures_beside_a_rival(capsys, evaluations, tmp_path):
    document = document_of(capsys, "pictures", *evaluations, "--out", "p", "--limit", "2")
    assert [name.rpartition("/")[2] for name in document["files"]] == ["samples.png", "questions.png", "pictures.html"]
    shown = {one["id"]: one["models"] for one in document["samples"]}
    assert {"s0", "s1"} <= set(shown), "the first picture under both its questions"
    assert shown["s1"]["dpn"]["visual_tokens"] == [64, 64, 64]
    assert shown["s1"]["static"]["route"] == "2x2,1x1"
    page = (tmp_path / "p/pictures.html").read_text()
    assert "dpn beside static" in page
    assert not any(address in page for address in ("http://", "https://"))
    assert base64.b64encode((tmp_path / "p/samples.png").read_bytes()).decode() in page
    with Image.open(tmp_path / "p/questions.png") as sheet:
        assert sheet.height > 4 * 300, "two pictures under two questions: four rows"


def test_pictures_of_chosen_samples(capsys, evaluations):
    document = document_of(capsys, "pictures", evaluations[0], "--id", "s5", "--id", "s2")
    assert [one["id"] for one in document["samples"]] == ["s5", "s2"]
    assert list(document["samples"][0]["models"]) == ["dpn"]


def test_files_of_others_stay(capsys, evaluations, tmp_path):
    mine = tmp_path / "p/samples.png"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert "--force" in refused(capsys, "pictures", evaluations[0], "--out", "p", "--limit", "1")
    assert mine.read_text() == "mine"


def test_pictures_mix_ups(capsys, evaluations, tmp_path):
    assert "'s99' has no image or is not in all runs" in refused(capsys, "pictures", *evaluations, "--id", "s99")
    (tmp_path / "static/result.json").unlink()
    (tmp_path / "dpn/result.json").unlink()
    assert "give --data" in refused(capsys, "pictures", *evaluations)
    rows = pq.read_table(tmp_path / "static/predictions.parquet").to_pylist()
    for change, words in (
        ({"question": "another ?"}, "another question in each"),
        ({"id": "x"}, "no sample with an image"),
    ):
        pq.write_table(pa.Table.from_pylist([{**row, **change} for row in rows]), tmp_path / "other.parquet")
        assert words in refused(capsys, "pictures", evaluations[0], str(tmp_path / "other.parquet"))
