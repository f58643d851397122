"""From padded ids and pictures to one packed batch of embeddings: a mixin of the model.

Shape letters: B samples, S padded length, T packed tokens, V visual tokens of all images together, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dpn_model.bases.vision.contract import ImageInputs, ImageSide, Pixels
from dpn_model.methods.contract import joined
from dpn_model.packed_ids import PackedIds, pack_ids
from dpn_model.packing import PackedSequence
from dpn_model.sample_keys import sample_keys
from dpn_model.steering import Steering

#: what transformers, its Trainer and peft hand to any forward and what changes nothing here
_IGNORED = ("return_dict",)


class PackedInputs(Steering):
    """`pack`, for models with `config`, `model` and an `image_side`."""

    model: Any
    device: torch.device
    training: bool
    image_side: ImageSide
    image_token_id: int

    def image_inputs(self, others: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the base's pictures come with, out of a forward's further arguments.

        Raises:
            ValueError: an argument that is set and has no meaning here.
        """
        known = self.image_side.inputs
        given = {name: value for name, value in others.items() if value is not None and value is not False}
        unknown = given.keys() - {*known, *_IGNORED}
        if unknown:
            allowed = ", ".join(("input_ids", "attention_mask", "pixel_values", *known, "labels"))
            raise ValueError(f"forward has no argument {', '.join(sorted(unknown))} with this base; allowed: {allowed}")
        return {name: others[name] for name in known if name in given}

    def pack(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        pixel_values: Pixels | None,
        inputs: ImageInputs | None = None,
    ) -> tuple[PackedSequence, PackedIds]:
        """Padded ids and images, as in `forward`, to one packed batch of embeddings and where its rows came from."""
        pixels = pixel_values if pixel_values is not None and len(pixel_values) else None
        inputs = inputs or {}
        ids = pack_ids(
            input_ids,
            attention_mask,
            device=self.device,
            image_token_id=self.image_token_id,
            router_token_id=self.config.router_token_id,
            pictures=() if pixels is None else self.image_side.pieces(pixels, inputs),
            positions=self.image_side.positions,
        )
        hidden_TD = self.model.get_input_embeddings()(ids.ids_T)
        injections: tuple[Tensor, ...] = ()
        if pixels is not None:
            hidden_TD, injections = _filled(hidden_TD, ids.is_image_T, self.encode_images(pixels, inputs))
        elif self.training or self.joins_ranks:
            # A text-only batch runs tower and projector as well: every rank joins the same collectives (spec
            # platform-conventions 3.1).
            hidden_TD = joined(hidden_TD, [self.encode_images(*self.image_side.blank(hidden_TD))])
        index_T = torch.arange(len(ids.ids_T), device=hidden_TD.device)
        keys: tuple[int, ...] = ()
        if self.needs_sample_keys:
            pictures = None if pixels is None else self.image_side.pictures(pixels, inputs)
            keys = sample_keys(ids.ids_T, ids.lengths, pictures, ids.pictures)
        packed = (hidden_TD, ids.kind_T, index_T, ids.position_ids_T, ids.lengths, ids.images, ids.router_rows_R, keys)
        return PackedSequence(*packed, injections=injections), ids

    def encode_images(self, pixel_values: Pixels, inputs: ImageInputs | None = None) -> Tensor:
        """Images as in `forward` -> float[visual tokens of all, D], projected features (see `ImageSide.encode`)."""
        return self.image_side.encode(self.model, pixel_values, inputs or {})

    def tower_runs(self, pixel_values: Pixels | None, inputs: ImageInputs, ids: PackedIds) -> list[tuple[int, ...]]:
        """For each sample, the patches of every run of the vision tower (`ImageSide.tower_runs`)."""
        runs: list[tuple[int, ...]] = [()] * len(ids.lengths)
        if pixel_values is not None and len(pixel_values):
            of_pictures = self.image_side.tower_runs(pixel_values, inputs)
            for picture, patches in zip(ids.pictures, of_pictures, strict=True):
                runs[picture.sample] += patches
        return runs


def _filled(hidden_TD: Tensor, is_image_T: Tensor, tokens_VX: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Embeddings with a picture's features in its rows, and what later layers add there: float[T, D] each."""
    first, *later = tokens_VX.to(hidden_TD.dtype).split(hidden_TD.shape[1], dim=1)
    rows_T1 = is_image_T[:, None]
    filled = hidden_TD.masked_scatter(rows_T1, first)
    return filled, tuple(torch.zeros_like(hidden_TD).masked_scatter(rows_T1, added) for added in later)
