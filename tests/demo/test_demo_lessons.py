"""The lessons of the tiny ChatRex: labels that are true, what is trained and what stays, what counts as right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dpn_platform.demo.detection import object_lesson, retrieval_lesson
from dpn_platform.demo.detection.base import build_tiny_chatrex
from dpn_platform.demo.detection.object_lesson import CONTENTS, TINTS, draw, of_boxes, of_cells, project, teach_objects
from dpn_platform.demo.detection.retrieval_lesson import Stage, measured, teach_retrieval


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Model and processor; lessons of a few pictures."""
    monkeypatch.setattr(object_lesson, "BATCH", 4)
    monkeypatch.setattr(retrieval_lesson, "BATCH", 8)
    monkeypatch.setattr(retrieval_lesson, "HELD_OUT", 8)
    torch.manual_seed(0)
    return build_tiny_chatrex()


def test_labels_say_what_is_there() -> None:
    drawn = [draw((1, number)) for number in range(6)]
    boxes, cells = of_boxes(drawn), of_cells(drawn).reshape(6, 8, 8, 2)
    told = [f"{TINTS[tint]} {CONTENTS[content]}" for tint, content in boxes.tolist()]
    start = 0
    for one, grid in zip(drawn, cells, strict=True):
        names = one.scene.categories()
        for place, thing in enumerate(one.proposals.objects.tolist()):
            assert told[start + place] == (names[thing] if thing >= 0 else "nothing nothing")
        start += len(one.proposals.boxes)
        left, top, right, bottom = one.scene.digit_box
        column, row = int((left + right) / 2 // 16), int((top + bottom) / 2 // 16)
        assert CONTENTS[grid[row, column, 1]] == one.scene.digit
        for y, x in np.ndindex(8, 8):
            covering = [
                name
                for box, name in zip(one.scene.boxes, names, strict=True)
                if box[0] <= 16 * x + 8 < box[2] and box[1] <= 16 * y + 8 < box[3]
            ]
            tint, content = grid[y, x].tolist()
            if (y, x) != (row, column) and covering:
                assert f"{TINTS[tint]} {CONTENTS[content]}" == covering[-1]
            elif (y, x) != (row, column):
                assert TINTS[tint] == "nothing"


def test_the_object_lesson_trains_towers_and_scales_what_they_project(small: tuple[Any, Any]) -> None:
    model, processor = small
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    lines: list[str] = []
    right = teach_objects(model, processor, lines.append, steps=3)
    assert 0 <= right <= 1
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert any(name.startswith("model.vision_tower.slow.") for name in moved)
    assert any(name.startswith("model.vision_tower.fast.") for name in moved)
    assert "model.language_model.embed_tokens.weight" in moved
    assert not any(name.startswith("model.language_model.layers.") for name in moved)
    with torch.no_grad():
        rows = project(model, processor, [draw((9, 9))]).boxes_ND
    words = model.model.get_input_embeddings().weight.detach()
    assert float(rows.norm(dim=1).mean() / words.norm(dim=1).mean()) == pytest.approx(1.0, abs=0.4)


def test_the_retrieval_lesson_trains_the_decoder_alone(small: tuple[Any, Any]) -> None:
    model, processor = small
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    stages = (Stage("list", {"list": 1}, "list", 0.9, 2), Stage("all", {"all": 1, "refer": 1}, "all", 0.9, 2))
    found = teach_retrieval(model, processor, lambda _: None, stages, pictures=16)
    assert set(found) == {"all", "refer"}
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert all(name.startswith("model.language_model.") for name in moved)
    assert any(".layers.3." in name for name in moved)


def test_an_answer_that_has_only_its_form_is_not_right(small: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of boxes count where an answer has them, words of names else."""
    model, processor = small
    taught = retrieval_lesson._taught(model, processor, 8)
    logits: list[torch.Tensor] = []
    losses = model.token_losses

    def always(token: str) -> Any:
        def token_losses(final: Any, labels_T: Any) -> Any:
            losses_R, sample_R, logits_RC = losses(final, labels_T)
            said = torch.zeros_like(logits_RC)
            said[:, processor.tokenizer.convert_tokens_to_ids(token)] = 1.0
            logits.append(said)
            return losses_R, sample_R, said

        return token_losses

    monkeypatch.setattr(model, "token_losses", always("<objects>"))
    assert measured(model, processor, taught, "all") == 0.0
    monkeypatch.setattr(model, "token_losses", always("</s>"))
    assert measured(model, processor, taught, "names") == 0.0
    monkeypatch.setattr(model, "token_losses", always("nothing"))
    assert 0.2 < measured(model, processor, taught, "names") < 0.7


@pytest.mark.parametrize("family", ["list", "names", "all", "detect", "refer", "count", "name"])
def test_what_is_said_is_true_of_the_shuffled_boxes(family: str) -> None:
    drawn = draw((4, 4))
    pieces = retrieval_lesson._pieces(drawn, drawn.proposals, family, np.random.default_rng(0))
    text = "".join(text for text, _ in pieces)
    names, things = drawn.scene.categories(), drawn.proposals.objects.tolist()
    if family in ("list", "names"):
        for (asked, _), (said, is_said) in zip(
            pieces[family == "list" :: 2], pieces[(family == "list") + 1 :: 2], strict=False
        ):
            assert is_said
            box = int(asked.split("<obj")[1].split(">")[0])
            assert said.removesuffix("</s>") == (names[things[box]] if things[box] >= 0 else "nothing")
    else:
        assert text.endswith("</s>")
        assert pieces[-1][1]
