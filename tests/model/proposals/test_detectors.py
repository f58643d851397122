"""Every family of detectors from its folder: scores by query, boxes in pixels, nothing that a neighbour changes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForObjectDetection, LlamaConfig
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

from dpn_model.proposals import families
from dpn_model.proposals.contract import Limits
from dpn_model.proposals.detector import Detector, load_detector, objectness
from dpn_model.proposals.pictures import load_pictures
from tests.model.proposals.tiny_detectors import CLASSES, DETECTORS, QUERIES, pictures, save_detector

EVERYTHING = Limits(0, 1)


@pytest.fixture(scope="module", params=list(DETECTORS))
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp(request.param), request.param)


def test_every_family_is_known() -> None:
    assert set(DETECTORS) == families.DETECTORS


def test_boxes_and_scores_are_the_models_own(folder: Path) -> None:
    """Against the model's raw outputs, one query after another."""
    (image,) = pictures((60, 40))
    model = AutoModelForObjectDetection.from_pretrained(folder).eval()
    inputs = load_pictures(folder)(image)
    with torch.no_grad():
        outputs = model(**inputs)
    is_softmax = model.config.model_type == "detr"
    assert outputs.logits.shape == (1, QUERIES, CLASSES + is_softmax)

    (proposed,) = load_detector(folder, EVERYTHING).propose([image])

    expected = []
    for logits, (cx, cy, w, h) in zip(outputs.logits[0].double(), outputs.pred_boxes[0].double().tolist(), strict=True):
        odds = logits.softmax(0)[:-1] if is_softmax else logits.sigmoid()
        left, top, right, bottom = 60 * (cx - w / 2), 40 * (cy - h / 2), 60 * (cx + w / 2), 40 * (cy + h / 2)
        expected.append([max(left, 0), max(top, 0), min(right, 60), min(bottom, 40), odds.max().item()])
    expected.sort(key=lambda row: -row[4])
    np.testing.assert_allclose(np.column_stack([proposed.boxes, proposed.scores]), expected, atol=2e-5)


def test_a_picture_alone_gives_what_it_gives_among_others(folder: Path) -> None:
    images = pictures((60, 40), (40, 60), (60, 40), (90, 33), (60, 40))
    found = load_detector(folder, EVERYTHING, batch_size=2).propose(images)
    for image, together in zip(images, found, strict=True):
        (alone,) = load_detector(folder, EVERYTHING).propose([image])
        assert len(together) == QUERIES
        np.testing.assert_allclose(together.boxes, alone.boxes, atol=1e-4)
        np.testing.assert_allclose(together.scores, alone.scores, atol=1e-6)


class Stub(nn.Module):
    """A detector that sees three boxes, two of them on one another, as surely as its picture is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="rt_detr")
        self.boxes = nn.Parameter(torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.2, 0.2], [0.5, 0.5, 0.5, 0.45]]))

    def forward(self, pixel_values: Tensor) -> Any:
        odds = pixel_values.mean((1, 2, 3))[:, None] * torch.tensor([0.8, 0.4, 1.0])
        logits = torch.stack([odds.logit(), odds.logit() - 1], dim=-1)
        return SimpleNamespace(logits=logits, pred_boxes=self.boxes.expand(len(logits), -1, -1))


def shades(*grey: int) -> list[Image.Image]:
    return [Image.new("RGB", (100, 60), (value, value, value)) for value in grey]


def stub(limits: Limits) -> Detector:
    return Detector(Stub(), lambda image: {"pixel_values": to_tensor(image)}, limits, batch_size=4)


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None]


def test_a_picture_without_boxes_takes_none_from_the_others() -> None:
    bright, dark, half = stub(Limits(0.3, 1)).propose(shades(255, 0, 127))
    assert [len(bright), len(dark), len(half)] == [3, 0, 2]
    np.testing.assert_allclose(bright.boxes, [[25, 16.5, 75, 43.5], [25, 15, 75, 45], [15, 9, 35, 21]], atol=1e-5)
    np.testing.assert_allclose(half.scores, [127 / 255, 0.8 * 127 / 255], atol=1e-6)


def test_what_lies_on_a_better_box_is_left_out() -> None:
    (proposed,) = stub(Limits(0.3, 0.8)).propose(shades(230))
    np.testing.assert_allclose(proposed.boxes, [[25, 16.5, 75, 43.5], [15, 9, 35, 21]], atol=1e-5)


def test_sigmoid_scores_a_query_once_and_softmax_leaves_nothing_out() -> None:
    logits = torch.tensor([[[2.0, 1.0, 5.0], [-1.0, 0.0, -2.0]]])
    focal, soft = (SimpleNamespace(model_type="rt_detr", use_focal_loss=is_focal) for is_focal in (True, False))
    torch.testing.assert_close(objectness(logits, focal), torch.tensor([[5.0, 0.0]]).sigmoid())
    torch.testing.assert_close(objectness(logits, soft), logits.softmax(-1)[..., :2].amax(-1))


def test_rf_detr_resizes_numbers_without_smoothing(tmp_path: Path) -> None:
    """A ramp of four steps becomes the two numbers in between; smoothing would mix in the outer ones."""
    folder = save_detector(tmp_path, "rf_detr")
    fields = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(fields | {"size": {"height": 2, "width": 2}}))
    ramp = np.repeat(np.array([[0, 10, 60, 250]], dtype=np.uint8), 2, axis=0)
    values = load_pictures(folder)(Image.fromarray(ramp))["pixel_values"]
    wanted = (np.array([5, 155]) / 255 - 0.485) / 0.229
    np.testing.assert_allclose(values[0, 0], [wanted, wanted], atol=1e-6)


def test_pictures_are_those_of_the_folders_own_processor(tmp_path: Path) -> None:
    folder = save_detector(tmp_path, "detr")
    (image,) = pictures((60, 40))
    own = DetrImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 80})(images=[image], return_tensors="pt")
    ours = load_pictures(folder)(image.convert("RGBA"))
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == {
        "pixel_values": (1, 3, 48, 72),
        "pixel_mask": (1, 48, 72),
    }
    torch.testing.assert_close(ours["pixel_values"], own["pixel_values"])


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    source = load_detector(save_detector(tmp_path, "detr"))
    with torch.no_grad():
        source.model.bbox_predictor.layers[-1].bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="boxes or scores are not all finite"):
        source.propose(pictures((60, 40)))


def test_folders_that_hold_no_detector_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no config.json"):
        load_detector(tmp_path)
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="holds a model of type llama; detectors are d_fine, deformable_detr, detr"
    ) as e:
        load_detector(tmp_path)
    assert "\n" not in str(e.value)


def test_a_detector_that_is_not_whole_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = save_detector(tmp_path, "detr")
    weights = load_file(folder / "model.safetensors")
    del weights["bbox_predictor.layers.0.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="1 missing: bbox_predictor.layers.0.weight"):
        load_detector(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no detector that can be loaded: .*") as error:
        load_detector(folder)
    assert "\n" not in str(error.value)


def test_a_detector_without_its_image_processor_is_refused(tmp_path: Path) -> None:
    folder = save_detector(tmp_path, "detr")
    fields = folder / "preprocessor_config.json"
    fields.write_text('{"image_processor_type": "CLIPImageProcessor"}')
    with pytest.raises(ValueError, match="it is of type CLIPImageProcessor; those of detectors are DeformableDetr"):
        load_detector(folder)
    fields.unlink()
    with pytest.raises(ValueError, match="holds no image processor that can be used: ") as error:
        load_detector(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields", [{"feature_extractor_type": "DetrFeatureExtractor"}, {"image_processor_type": "DetrImageProcessorFast"}]
)
def test_older_names_of_an_image_processor(tmp_path: Path, fields: dict[str, str]) -> None:
    folder = save_detector(tmp_path, "detr")
    (folder / "preprocessor_config.json").write_text(json.dumps(fields | {"size": {"height": 32, "width": 48}}))
    assert load_pictures(folder)(pictures((60, 40))[0])["pixel_values"].shape == (1, 3, 32, 48)
