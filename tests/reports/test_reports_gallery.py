"""The gallery: which examples are shown, the grid each route leaves, examples that are incomplete."""

from __future__ import annotations

import io

import pytest
from matplotlib.figure import Figure
from PIL import Image

from dpn_platform.reports.look.gallery import choose_examples, decode_image, draw_boxes, gallery_png, said, token_grid
from dpn_platform.reports.look.labels import route_steps, route_text, short_params
from dpn_platform.reports.study.record import StudyRecord


def test_token_grid_follows_the_kernels() -> None:
    assert token_grid(64, ["2x2", "1x1", "1x2"]) == [(8, 8), (4, 4), (4, 4), (4, 2)]
    assert token_grid(81, ["2x2"]) == [(9, 9), (5, 5)]
    assert token_grid(60, ["2x2"]) == []
    assert token_grid(64, ["keep 0.5"]) == []
    assert token_grid(64, []) == [(8, 8)]


def test_choose_examples_takes_families_in_turn() -> None:
    examples = [{"family": "a", "id": index} for index in range(10)] + [{"family": "b", "id": 10}]
    chosen = choose_examples(examples, limit=4)
    assert [example["id"] for example in chosen] == [0, 10, 1, 2]


def test_gallery_draws_incomplete_examples(record: StudyRecord) -> None:
    odd = (
        {"image": None, "question": "what is two and two?", "answer": "four", "gold": "four", "correct": True},
        {"image": "not base64!", "question": "q " * 80, "answer": "", "gold": "x", "route": [], "visual_tokens": [64]},
        {"image": record.examples[0]["image"], "visual_tokens": [64, 31, 15], "route": ["drop", "drop"]},
    )
    picture = gallery_png(odd)
    assert picture is not None
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size[0] == 1620


def test_boxes_are_drawn_where_they_are_and_answers_told_in_words() -> None:
    answer = "two <ground>red circle</ground><objects><obj0><obj2></objects>\n<ground>dog</ground><objects></objects>"
    boxes = [[0, 0, 20, 10], [10, 10, 30, 20], [30, 0, 40, 20]]
    assert said(answer, boxes) == "two red circle 0 2; dog none"
    assert said("yes", boxes) == "yes"
    assert said(answer, None) == answer
    axes = Figure().add_subplot()
    draw_boxes(axes, boxes, answer, (40, 20))
    drawn = [(patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()) for patch in axes.patches]
    assert drawn == [(0, 0.5, 0.5, 0.5), (0.25, 0, 0.5, 0.5), (0.75, 0, 0.25, 1)]
    assert [text.get_text() for text in axes.texts] == ["0", "2"]
    edges = [patch.get_edgecolor() for patch in axes.patches]
    assert edges[0] == edges[2] != edges[1]


def test_gallery_of_no_examples_is_none(record: StudyRecord) -> None:
    assert gallery_png(()) is None


def test_decode_image_of_what_is_no_image() -> None:
    assert decode_image(None) is None
    assert decode_image("aGVsbG8=") is None


@pytest.mark.parametrize(
    "route", ["2x2,1x1,1x2", "2x2 -> 1x1 -> 1x2", "2x2 1x1 1x2", "2x2/1x1/1x2", ["2x2", "1x1", "1x2"]]
)
def test_route_is_read_however_it_is_written(route: str | list[str]) -> None:
    assert route_steps(route) == ["2x2", "1x1", "1x2"]
    assert route_text(route) == "2x2 → 1x1 → 1x2"


def test_short_params_names_lambda_and_target() -> None:
    params = {"method.routing_loss.weight": 0.123456, "routing_loss_target": 1.5, "experts": ["1x1", "2x2"]}
    assert short_params(params) == "λ=0.123 t=1.5 experts={1x1,2x2}"
    assert short_params(params, {"experts"}) == "λ=0.123 t=1.5"
