"""A CLIP-style tower looked at while it runs: features in front of the projector, levels, queries, keys, values.

Shape letters: I images, P tokens of the tower (its class token first), V patches, C width of the tower, D model width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from dpn_model.bases.vision.contract import ImageInputs, Pixels
from dpn_model.methods.probe import PIXELS, TowerPicture


class WithoutObjects:
    """Of bases that are shown pictures alone."""

    has_objects = False

    def objects(self, model: Any, pictures: Sequence[TowerPicture], boxes: Sequence[Tensor]) -> Tensor:
        """See `ImageSide`; nobody asks where `has_objects` is false."""
        raise ValueError(f"base {model.config.model_type} takes no boxes")


class ClosedTower(WithoutObjects):
    """Of bases in whose towers nobody can look yet: methods that stand between tower and decoder do not fit them."""

    shows_layers = False

    def tower(
        self, model: Any, pixel_values: Pixels, inputs: ImageInputs, looks: Collection[str]
    ) -> list[TowerPicture]:
        """See `ImageSide`."""
        raise ValueError(_CLOSED.format(kind=model.config.model_type))

    def project(self, model: Any, features_VC: Tensor) -> Tensor:
        """See `ImageSide`."""
        raise ValueError(_CLOSED.format(kind=model.config.model_type))


_CLOSED = (
    "this method stands between the vision tower and the decoder, where base {kind} has no place for it; bases that "
    "have: llava, llava_hr, chatrex"
)


def run_tower(
    tower: Any, images: Tensor, feature_layer: int | Sequence[int], class_tokens: int, looks: Collection[str]
) -> list[TowerPicture]:
    """float[I, 3, S, S], all of the tower's own size, through a CLIP or SigLIP tower of transformers.

    Args:
        tower: with `config` and a module list `layers` of blocks that have `self_attn.{q,k,v}_proj`.
        images: normalised.
        feature_layer: whose hidden states are the features; side by side where there are several.
        class_tokens: in front of the patches.
        looks: `methods.probe.level`, `tower_layer` and `PIXELS`.

    Raises:
        ValueError: a layer or level that the tower does not have.
    """
    layers = next(module for name, module in tower.named_modules() if name.rpartition(".")[2] == "layers")
    assert isinstance(layers, nn.ModuleList)
    watched: dict[str, list[Tensor]] = {}
    levels = {look: int(look.partition(":")[2]) for look in looks if look.startswith("level:")}
    blocks = {look: int(look.partition(":")[2]) for look in looks if look.startswith("layer:")}
    for look, index in {**blocks, **levels}.items():
        count = len(layers) + (look in levels)
        if not -count <= index < count:
            raise ValueError(f"{look} of the tower is looked at; it has {count}, 0 to {count - 1}")
    with ExitStack() as stack:
        for look, index in blocks.items():
            watched[look] = []
            for name in ("q_proj", "k_proj", "v_proj"):
                module = getattr(layers[index].self_attn, name)
                keep = watched[look].append
                handle = module.register_forward_hook(lambda _module, _given, out, keep=keep: keep(out))
                stack.callback(handle.remove)
        hidden = tower(images, output_hidden_states=True, return_dict=True).hidden_states
    chosen = (feature_layer,) if isinstance(feature_layer, int) else tuple(feature_layer)
    features_IVC = torch.cat([hidden[index][:, class_tokens:] for index in chosen], dim=-1)
    stacked = {look: torch.stack(found, dim=1) for look, found in watched.items()}  # [I, 3, P, C]
    stacked |= {look: hidden[index] for look, index in levels.items()}
    if PIXELS in looks:
        stacked[PIXELS] = images
    side = int((images.shape[-1] * images.shape[-2] // features_IVC.shape[1]) ** 0.5)
    grid = images.shape[-2] // side, images.shape[-1] // side
    heads = int(tower.config.num_attention_heads)
    return [
        TowerPicture(
            features_IVC[place], grid, {look: one[place] for look, one in stacked.items()}, heads, class_tokens
        )
        for place in range(len(images))
    ]


def same_size(pixel_values: Pixels) -> Tensor:
    """float[I, 3, S, S] of pictures given as one tensor or as a list.

    Raises:
        ValueError: they differ in size.
    """
    if isinstance(pixel_values, Tensor):
        return pixel_values
    images = list(pixel_values)
    if len({tuple(image.shape) for image in images}) > 1:
        raise ValueError("pixel_values: pictures of several sizes; this method takes those of the tower's own size")
    return torch.stack(images)
