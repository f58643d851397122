"""The drawn detection set: proposals of the promised kinds, answers that name the right boxes, records ingest takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dpn_model.objects.answers import object_indices, parse_answer
from dpn_model.objects.boxes import iou_matrix
from dpn_model.objects.record import ObjectRecord
from dpn_platform.demo.build import make_demo
from dpn_platform.demo.detection.questions import FAMILIES, NOTHING, WORDS, ask
from dpn_platform.demo.detection.records import draw_record
from dpn_platform.demo.detection.scenes import draw_scene, paint, propose
from dpn_platform.demo.recipe import DemoRecipe, detection_recipe
from dpn_platform.storage import list_files, read_json


@pytest.mark.parametrize("seed", range(20))
def test_every_object_is_proposed_and_nothing_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = draw_scene(rng)
    offered = propose(scene, rng)
    assert 2 <= len(scene.boxes) <= 6
    assert len(offered.boxes) <= 16
    assert (np.diff(offered.scores) <= 0).all()
    named = Counter(offered.objects[offered.objects >= 0].tolist())
    assert set(named) == set(range(len(scene.boxes)))
    assert set(named.values()) == {1}
    overlaps = iou_matrix(offered.boxes, scene.boxes)
    assert (overlaps[offered.objects >= 0].max(axis=1) >= 0.5).all()
    assert overlaps.max() < 1
    ObjectRecord.of_fields({"boxes": offered.boxes.tolist(), "scores": offered.scores.tolist()}, (128, 128))
    assert paint(scene, rng).size == (128, 128)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(8))
def test_answers_are_true(family: str, seed: int) -> None:
    asked = ask(family, np.random.default_rng((7, seed)))
    names, things = asked.scene.categories(), asked.proposals.objects.tolist()
    answer = parse_answer(asked.answer, len(things))
    assert answer.out_of_range + answer.duplicate + answer.unclosed == 0
    if family == "name":
        thing = things[object_indices(asked.question)[0]]
        assert asked.answer == (NOTHING if thing < 0 else names[thing])
    elif family == "read":
        assert asked.answer == asked.scene.digit
    elif family == "refer":
        side, category = asked.question.removeprefix("detect the ").split(" ", 1)
        (box,) = answer.groups[f"{side} {category}"]
        alike = [box for box, thing in enumerate(things) if thing >= 0 and names[thing] == category]
        middles = [asked.scene.boxes[things[box], [0, 2]].mean() for box in alike]
        assert box == alike[int(np.argmin(middles) if side == "left" else np.argmax(middles))]
    else:
        for category, boxes in answer.groups.items():
            assert set(boxes) == {box for box, thing in enumerate(things) if thing >= 0 and names[thing] == category}
            assert category in asked.question
    said = asked.question + " " + asked.answer
    for tag in ("<ground>", "</ground>", "<objects>", "</objects>", *(f"<obj{number}>" for number in range(16))):
        said = said.replace(tag, " ")
    assert set(said.split()) <= set(WORDS)


def test_some_kinds_are_asked_for_that_are_not_there() -> None:
    answers = [ask("detect", np.random.default_rng((3, seed))).answer for seed in range(60)]
    assert 0.2 < sum("<objects></objects>" in answer for answer in answers) / 60 < 0.6


def test_a_record_is_a_function_of_its_place() -> None:
    (first, image), (again, same) = (draw_record(5, "train", 3) for _ in range(2))
    assert first == again
    assert image.tobytes() == same.tobytes()
    assert draw_record(5, "test", 3)[0] != first
    assert [draw_record(5, "test", index)[0]["family"] for index in range(5)] == list(FAMILIES)


def test_the_raw_set_is_one_of_its_own_kind(tmp_path) -> None:
    recipe = detection_recipe(10, 5)
    make_demo(f"file://{tmp_path}", recipe)
    train, test = (read_json(f"file://{tmp_path}/{split}.json") for split in ("train", "test"))
    assert (len(train), len(test)) == (10, 5)
    assert Counter(record["family"] for record in train) == {"name": 2, "detect": 4, "refer": 1, "count": 2, "read": 1}
    assert len(list_files(f"file://{tmp_path}", ".jpg")) == 15
    for record in [*train, *test]:
        assert ObjectRecord.of_fields(record, (128, 128)).truth is not None
    assert recipe.folder != DemoRecipe(10, 5, image_size=128).folder
    assert recipe.to_json()["kind"] == "detection"
