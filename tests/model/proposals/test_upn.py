"""UPN: equal to a plain reference from the same file, of the published size, and its authors' inference."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dpn_model.proposals.opening import SourceSpec, open_source
from dpn_model.proposals.upn.network import GRANULARITIES, Granularity, UpnNetwork
from dpn_model.proposals.upn.queries import anchors, best_rows, logits_of
from dpn_model.proposals.upn.shape import shape_of
from dpn_model.proposals.upn.source import Upn, network_size, prepare
from dpn_model.proposals.upn.weights import load_upn
from tests.model.proposals.plain_upn import PlainUpn
from tests.model.proposals.tiny_detectors import pictures
from tests.model.proposals.toy_upn import TOY, toy_weights


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return toy_weights()


@pytest.fixture(scope="module")
def file(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("upn"), tensors)


@pytest.fixture(scope="module")
def network(file: Path) -> UpnNetwork:
    return load_upn(file)


def saved(folder: Path, tensors: dict[str, Tensor], **more: object) -> Path:
    torch.save({"model": tensors, **more}, folder / "upn.pth")
    return folder / "upn.pth"


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("size", [(70, 94), (66, 53)])
def test_forward_equals_the_plain_reference(
    tensors: dict[str, Tensor], file: Path, granularity: Granularity, size: tuple[int, int]
) -> None:
    picture = torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    wanted_logits, wanted_boxes = PlainUpn(tensors)(picture, granularity)
    with torch.no_grad():
        logits, boxes = load_upn(file).double()(picture.double()[None], granularity)
    # Measured: 4e-8 in both; sines and anchors are float32.
    torch.testing.assert_close(logits[0], wanted_logits, atol=5e-7, rtol=0)
    torch.testing.assert_close(boxes[0], wanted_boxes, atol=5e-7, rtol=0)


def test_both_granularities_read_one_encoding(network: UpnNetwork) -> None:
    picture = torch.randn(1, 3, 70, 94, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        seen = network.see(picture)
        fine, coarse = (network.detect(seen, granularity) for granularity in GRANULARITIES)
        again = network(picture, "coarse")
    torch.testing.assert_close(coarse, again, atol=0, rtol=0)
    assert (fine[0] - coarse[0]).abs().max() > 1e-3
    assert (fine[1] - coarse[1]).abs().max() > 1e-3


def test_published_size() -> None:
    with torch.device("meta"):
        whole = UpnNetwork()
    swin = sum(tensor.numel() for tensor in whole.backbone.parameters())
    beside = sum(tensor.numel() for tensor in whole.parameters()) - swin
    # Swin-L's 195.2 M. Of the 22.4 M beside it (spec 2), a head for points, 2 (256² + 256), is in the file and idle.
    assert swin == 195_201_204
    assert beside == 22_305_672
    assert round((beside + 2 * (256**2 + 256)) / 1e6, 1) == 22.4


def test_sizes_are_read_from_the_file(tensors: dict[str, Tensor]) -> None:
    assert shape_of(tensors) == TOY
    other = replace(TOY, depths=(2, 1, 1, 1), window=4, points=3, levels=4, queries=7)
    assert shape_of(toy_weights(other)) == other


def test_anchors_and_logits_by_hand() -> None:
    logits, is_inside = anchors([(1, 2), (1, 1)])
    torch.testing.assert_close(
        logits.sigmoid(), torch.tensor([[0.25, 0.5, 0.05, 0.05], [0.75, 0.5, 0.05, 0.05], [0.5, 0.5, 0.1, 0.1]])
    )
    assert is_inside.all()
    logits, is_inside = anchors([(1, 60)])
    assert is_inside.tolist() == [False, *[True] * 58, False]
    assert logits[0].isinf().all()
    # Cut at a thousandth: log(.001), log(.001 / .9995), 0, log(1 / .001).
    found = logits_of(torch.tensor([0.0, 0.0005, 0.5, 1.0]))
    torch.testing.assert_close(found, torch.tensor([-6.907755, -6.907255, 0, 6.907755]))


def test_queries_begin_at_the_best_rows() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7], [4.0, 3.0, 2.0, 1.0]])
    assert best_rows(scores, 2).tolist() == [[1, 3], [0, 1]]
    assert best_rows(scores, 9).tolist() == [[1, 3, 2, 0], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((640, 480), (1066, 800)),
        ((480, 640), (800, 1066)),
        ((500, 500), (800, 800)),
        ((2000, 1000), (1332, 666)),
        ((1000, 1999), (667, 1333)),
        ((333, 500), (800, 1201)),
    ],
)
def test_pictures_are_shown_with_800_by_at_most_1333(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert network_size(size) == shown
    assert prepare(Image.new("L", size, 124))["pixel_values"].shape == (1, 3, shown[1], shown[0])


def test_pictures_are_normalised() -> None:
    pixels = prepare(Image.new("RGB", (50, 40), (124, 116, 0)))["pixel_values"]
    wanted = [(124 / 255 - 0.485) / 0.229, (116 / 255 - 0.456) / 0.224, -0.406 / 0.225]
    torch.testing.assert_close(pixels[0, :, 3, 5], torch.tensor(wanted), atol=1e-6, rtol=0)


class Stub(UpnNetwork):
    """Gives the same boxes for every picture."""

    def forward(self, pixels: Tensor, granularity: Granularity = "fine") -> tuple[Tensor, Tensor]:
        odds = torch.tensor([0.3149, 0.2, 0.876, 0.5, 0.875])
        boxes = [
            [0.5, 0.5, 0.5, 0.53125],
            [0.1, 0.1, 0.1, 0.1],
            [0.25, 0.25, 0.625, 0.375],
            [0.505, 0.5, 0.001, 0.5],
            [0.25, 0.25, 0.625, 0.390625],
        ]
        return odds.logit().expand(len(pixels), -1), torch.tensor(boxes).expand(len(pixels), -1, -1)


def test_boxes_are_cut_to_whole_pixels_and_scores_rounded() -> None:
    source = Upn(Stub(TOY))
    first, second = source.propose(pictures((100, 50), (36, 21)))
    # The second is too unsure, the fifth lies on the third, the fourth has no whole pixel between its sides.
    assert first.boxes.tolist() == [[0, 3, 56, 21], [25, 11, 75, 38]]
    assert first.scores.tolist() == [0.88, 0.31]
    assert second.boxes.tolist() == [[0, 1, 20, 9], [9, 4, 27, 16]]


def test_a_file_is_opened_as_a_source(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpn_model.proposals.upn.source.SHORTEST", 64)
    images = pictures((64, 70), (90, 64), (64, 70))
    source = open_source(SourceSpec("upn", str(file), threshold=0, nms=1, granularity="coarse"))
    together = source.propose(images)
    for image, found in zip(images, together, strict=True):
        (alone,) = source.propose([image])
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_array_equal(found.scores, alone.scores)
        np.testing.assert_array_equal(found.boxes, np.trunc(found.boxes))
    fine = open_source(SourceSpec("upn", str(file), threshold=0, nms=1)).propose(images[:1])
    assert fine[0].boxes.tolist() != together[0].boxes.tolist()


def test_what_is_missing_is_named(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    rest = {name: tensor for name, tensor in tensors.items() if "fine_grained" not in name}
    with pytest.raises(ValueError, match=r"upn.pth does not fit the model; 1 missing: prompts.fine$"):
        load_upn(saved(tmp_path, rest))
    rest = {name: tensor for name, tensor in tensors.items() if "level_embed" not in name}
    with pytest.raises(
        ValueError, match=r"upn.pth: these are no weights of a UPN: transformer.level_embed is missing$"
    ):
        load_upn(saved(tmp_path, rest))


def test_box_heads_that_differ_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    name = "bbox_embed.1.layers.0.bias"
    with pytest.raises(ValueError, match=re.escape(f"{name} differs from the other layers' box head")):
        load_upn(saved(tmp_path, {**tensors, name: tensors[name] + 1}))


def test_files_that_hold_something_else_are_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(FileNotFoundError, match="gone.pth does not exist"):
        load_upn(tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="holds more than tensors and is refused"):
        load_upn(saved(tmp_path, tensors, args=Path("code")))
    torch.save(tensors, tmp_path / "plain.pth")
    with pytest.raises(ValueError, match="has no key 'model' with tensors by name"):
        load_upn(tmp_path / "plain.pth")
    with pytest.raises(ValueError, match="granularity is middle; allowed: fine, coarse"):
        Upn(Stub(TOY), "middle")  # type: ignore[arg-type]
