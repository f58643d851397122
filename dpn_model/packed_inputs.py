"""From padded ids and pictures to one packed batch of embeddings: a mixin of the model.

Shape letters: B samples, S padded length, T packed tokens, V visual tokens of all images together, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpn_model.bases.vision.contract import ImageInputs, Pixels
from dpn_model.bases.vision.projected import ProjectedImages
from dpn_model.cost.ledger import Rows
from dpn_model.method_parts import MethodParts
from dpn_model.methods.probe import ATTENTION, NEXT_LAYER, QUESTION, VisionProbe
from dpn_model.methods.records import ReductionRecord
from dpn_model.packed_ids import PackedIds, pack_ids
from dpn_model.packing import PackedSequence
from dpn_model.sample_keys import sample_keys
from dpn_model.seeing import blank_tokens, resized, see, selected, with_tokens

#: what transformers, its Trainer and peft hand to any forward and what changes nothing here
_IGNORED = ("return_dict",)


@dataclass(frozen=True)
class Packed:
    """A batch in front of the first layer.

    Attributes:
        state: embeddings, pictures' tokens in their rows; behind the selector, if there is one.
        ids: where its rows came from.
        before: rows of every sample as the base alone would run them.
        selections: what the selector did.
        vision: what the tower showed; None where no part looks.
        runs: per sample, patches of every run of the tower (`ImageSide.tower_runs`).
        base_runs: as the base alone would run it.
    """

    state: PackedSequence
    ids: PackedIds
    before: tuple[Rows, ...]
    selections: tuple[ReductionRecord, ...] = ()
    vision: VisionProbe | None = None
    runs: tuple[tuple[int, ...], ...] = ()
    base_runs: tuple[tuple[int, ...], ...] = ()

    @property
    def macs(self) -> dict[str, tuple[int, ...]]:
        """Spent on looking at the tower, by tag and sample."""
        if self.vision is None or not self.vision.macs_per_picture:
            return {}
        spent = [0] * len(self.before)
        for picture in self.ids.pictures:
            spent[picture.sample] += self.vision.macs_per_picture
        return {"tower": tuple(spent)}


class PackedInputs(MethodParts):
    """`pack`, for models with `config`, `model` and an `image_side`."""

    device: torch.device
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
        labels: Tensor | None = None,
    ) -> Packed:
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
            labels=labels if any(part.looks & {ATTENTION, NEXT_LAYER, QUESTION} for part in self.parts.all()) else None,
        )
        hidden_TD = self.model.get_input_embeddings()(ids.ids_T)
        keys: tuple[int, ...] = ()
        if self.needs_sample_keys:
            pictures = None if pixels is None else self.image_side.pictures(pixels, inputs)
            keys = sample_keys(ids.ids_T, ids.lengths, pictures, ids.pictures)
        index_T = torch.arange(len(ids.ids_T), device=hidden_TD.device)
        packed = (hidden_TD, ids.kind_T, index_T, ids.position_ids_T, ids.lengths, ids.images, ids.router_rows_R, keys)
        state = PackedSequence(*packed, asking_rows_R=ids.asking_rows_R)
        texts = [length - visual for length, visual in zip(ids.lengths, state.visual_tokens(), strict=True)]
        selections: tuple[ReductionRecord, ...] = ()
        runs = base_runs = self._by_sample(ids, None if pixels is None else self.image_side.tower_runs(pixels, inputs))
        if isinstance(self.image_side, ProjectedImages):  # the base alone would run the patches of every picture
            patches = [math.prod(self.image_side.patches) * len(of_sample) for of_sample in runs]
            height, width = self.image_side.fixed_grid()
            told = tuple(f"{height}x{width}" if count else "-" for count in patches)
            selections = (ReductionRecord(0, tuple(patches), state.visual_tokens(), told),)
        else:
            patches = list(state.visual_tokens())
        before = tuple(Rows(*rows) for rows in zip(patches, texts, strict=True))
        if pixels is None:
            if self.training or self.joins_ranks:
                # A text-only batch runs tower and projector as well: every rank joins the same collectives (spec
                # platform-conventions 3.1).
                hidden_TD = blank_tokens(self.model, self.parts, self.image_side, hidden_TD)
            if self.parts.selector is not None or self.parts.resizer is not None:
                selections = (*selections, ReductionRecord.of_nothing(0, state.num_samples))
            return Packed(state.with_hidden(hidden_TD), ids, before, selections, None, runs, base_runs)
        samples = [picture.sample for picture in ids.pictures]
        seen = see(self.model, self.parts, self.image_side, pixels, inputs, samples, state)
        if seen.rows is None:
            state = with_tokens(state, seen)
        if self.parts.selector is not None:
            state, record = selected(self.parts.selector, state, seen, self.model_shape)
            selections = (*selections, record)
        if seen.runs is not None:
            state, record = resized(state, seen)
            selections, runs = (*selections, record), self._by_sample(ids, seen.runs)
        return Packed(state, ids, before, selections, seen.vision, runs, base_runs)

    def _by_sample(self, ids: PackedIds, runs: tuple[tuple[int, ...], ...] | None) -> tuple[tuple[int, ...], ...]:
        """Runs of the tower, picture by picture (None: there is none), put together by sample."""
        found: list[tuple[int, ...]] = [()] * len(ids.lengths)
        for picture, patches in zip(ids.pictures if runs is not None else (), runs or (), strict=True):
            found[picture.sample] += patches
        return tuple(found)
