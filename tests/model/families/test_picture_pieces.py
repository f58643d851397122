"""Pictures of several grids, newlines behind rows, features that later layers add; inputs that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dpn_model import Method
from dpn_model.methods.pooling.experts import DepthwiseConv, pool_image, tokens_after
from dpn_model.methods.rows import replace_image_rows
from dpn_model.packing import ImageSpan

IMAGE = 91


def test_what_later_layers_add_is_pooled_as_the_tokens_are(family_of) -> None:
    """Qwen3-VL adds features behind layers 1 to 3: what is left of them behind a site is pooled by its windows."""
    family = family_of("qwen3_vl")
    _, ours = family.pair()
    state = ours.pack(**{"attention_mask": None} | as_pack(family)).state
    assert len(state.injections) == 3
    assert all(injected[state.kind_T != 1].abs().max() == 0 for injected in state.injections)
    behind = state.injected()
    torch.testing.assert_close(behind.hidden_TD, state.hidden_TD + state.injections[0])
    rows = [pool_image(image, (2, 2)) for image in state.images]
    pooled = replace_image_rows(behind, rows)[0].injections
    for kept, injected in zip(pooled, state.injections[1:], strict=True):
        torch.testing.assert_close(kept, replace_image_rows(state.with_hidden(injected), rows)[0].hidden_TD)
    ours.configure_method(Method(name="static", kernel="2x2", sites=(2,), pool="conv"))
    with pytest.raises(ValueError, match="pool = conv at a site behind which 1 more layers add to visual tokens"):
        ours(**family.samples()[0])


def as_pack(family: Any) -> dict[str, Any]:
    sample = family.samples()[2]
    return {"input_ids": sample.pop("input_ids"), "pixel_values": sample.pop("pixel_values"), "inputs": sample}


def test_a_pooled_row_ends_with_one_newline() -> None:
    """A 2x3 view with newlines (cells 0 1 2 n, 3 4 5 n) by 2x2: one window and one newline; by 1x2 two rows."""
    image = ImageSpan(0, 10, 2, 3, row_end=1)
    assert pool_image(image, (2, 2)).windows.tolist() == [[0, 1, 4, 5], [3, -1, 7, -1]]
    assert pool_image(image, (1, 2)).windows.tolist() == [[0, 1], [3, -1], [4, 5], [7, -1]]
    assert pool_image(image, (2, 2), "ceil").windows.tolist() == [[0, 1, 4, 5], [2, -1, 6, -1], [3, -1, 7, -1]]
    assert tokens_after(image, (1, 1)) == 8
    assert tokens_after(image, (2, 2)) == 2
    assert tokens_after(image, (1, 4)) == 0
    with pytest.raises(ValueError, match="pool = conv; allowed for pictures whose rows end with a newline: max, avg"):
        pool_image(image, (2, 2), pool=DepthwiseConv(4, (2, 2)))


def test_a_sample_with_several_pictures_has_a_tile_and_a_newline_for_each(family_of) -> None:
    """LLaVA-OneVision's `batch_num_images`: one picture is tiled, of two in a sample neither is."""
    family = family_of("llava_onevision")
    theirs, ours = family.pair()
    first, second = family.pictures
    pixels = torch.cat([first.pixels, second.pixels, first.pixels])
    batch = {
        "input_ids": torch.tensor([[5, *[IMAGE] * 17, 6, *[IMAGE] * 17, *range(7, 30)], [5, *first.ids, 7, 8]]),
        "pixel_values": pixels,
        "image_sizes": torch.tensor([[30, 14], [31, 32], [30, 14]]),
        "batch_num_images": torch.tensor([2, 1]),
    }
    out = ours(**batch)
    torch.testing.assert_close(out.logits, theirs(**batch).logits[:, -1], atol=1e-5, rtol=1e-5)
    assert out.routing.visual_tokens == (32, 56)  # lone newlines count as text, those at the end of rows do not
    assert out.routing.num_images == (2, 3)


@pytest.mark.parametrize(
    ("kind", "broken", "told"),
    [
        ("llava_next", {"image_sizes": None}, "there is no image_sizes"),
        (
            "llava_next",
            {"image_sizes": torch.tensor([[30, 14]] * 2)},
            "image_sizes holds 2 sizes, pixel_values 3 images",
        ),
        ("llava_next", {"pixel_values": torch.randn(3, 2, 3, 16, 16)}, r"\[0\] has shape \(2, 3, 16, 16\)"),
        ("internvl", {"pixel_values": torch.randn(3, 3, 32, 32)}, r"allowed: \(3, 16, 16\)"),
        ("internvl", {"image_sizes": torch.tensor([[1, 1]])}, "forward has no argument image_sizes with this base"),
        ("qwen3_vl", {"image_grid_thw": None}, "there is no image_grid_thw"),
        ("qwen3_vl", {"pixel_values_videos": torch.randn(4, 96)}, "no argument pixel_values_videos"),
        ("smolvlm", {"pixel_values": torch.randn(1, 4, 3, 8, 8)}, r"allowed: \(3, 16, 16\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(family_of, kind, broken, told) -> None:
    family = family_of(kind)
    _, ours = family.pair()
    with pytest.raises(ValueError, match=told):
        ours(**family.batch() | broken)
    if "argument" in told:
        with pytest.raises(ValueError, match=next(iter(broken))):
            ours.generate(**family.batch() | broken)
