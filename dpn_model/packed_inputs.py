"""From padded ids and pictures to one packed batch of embeddings: a mixin of the model.

Shape letters: B samples, S padded length, T packed tokens, V visual tokens of all images together, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dpn_model.bases.vision.contract import ImageInputs, Pixels
from dpn_model.bases.vision.image_side import image_side_of
from dpn_model.cost.ledger import PROJECTOR, Rows
from dpn_model.method_parts import MethodParts
from dpn_model.methods.contract import Projector
from dpn_model.methods.probe import ATTENTION, NEXT_LAYER, TURNS, VisionProbe
from dpn_model.methods.records import ReductionRecord
from dpn_model.packed_ids import PackedIds, boxes_by_picture, pack_ids
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

    def copied(self, copies: int) -> Packed:
        """Every sample so often; of the tower's work the first copy has the bill."""
        none = ((),) * len(self.runs) * (copies - 1)
        runs, base_runs = self.runs + none, self.base_runs + none
        return replace(
            self, state=self.state.copied(copies), before=self.before * copies, runs=runs, base_runs=base_runs
        )


class PackedInputs(MethodParts):
    """`pack`, for models with `config`, `model` and an `image_side`."""

    device: torch.device
    image_token_id: int
    object_token_id: int | None

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
            object_token_id=self.object_token_id,
            labels=labels if any(part.looks & {ATTENTION, NEXT_LAYER, TURNS} for part in self.parts.all()) else None,
        )
        hidden_TD = self.model.get_input_embeddings()(ids.ids_T)
        keys: tuple[int, ...] = ()
        if self.needs_sample_keys:
            pictures = None if pixels is None else self.image_side.pictures(pixels, inputs)
            keys = sample_keys(ids.ids_T, ids.lengths, pictures, ids.pictures)
        index_T = torch.arange(len(ids.ids_T), device=hidden_TD.device)
        columns = (hidden_TD, ids.kind_T, index_T, ids.position_ids_T, ids.lengths, ids.images, ids.router_rows_R, keys)
        state = PackedSequence(*columns, asking_rows_R=ids.asking_rows_R)
        runs = self._by_sample(ids, () if pixels is None else self.image_side.tower_runs(pixels, inputs))
        before, selections = self._before(ids, state.visual_tokens(), runs)
        packed = Packed(state, ids, before, selections, runs=runs, base_runs=runs)
        if pixels is not None:
            return self._with_pictures(packed, pixels, inputs)
        boxes_by_picture(ids, inputs.get("boxes"))
        return self._without_pictures(packed)

    def _before(
        self, ids: PackedIds, visual: tuple[int, ...], runs: tuple[tuple[int, ...], ...]
    ) -> tuple[tuple[Rows, ...], tuple[ReductionRecord, ...]]:
        """Rows of every sample as the base alone would run them, and what a method's projector made of them."""
        texts = [length - tokens for length, tokens in zip(ids.lengths, visual, strict=True)]
        projector = self.parts.projector
        if projector is None:
            return tuple(Rows(*rows) for rows in zip(visual, texts, strict=True)), ()
        record = self._projection(projector, [len(one) for one in runs], visual)
        return tuple(Rows(*rows) for rows in zip(record.tokens_in, texts, strict=True)), (record,)

    def _projection(self, projector: Projector, pictures: list[int], tokens: tuple[int, ...]) -> ReductionRecord:
        """What a method's projector did, as a record of site 0; pictures and tokens of every sample."""
        grid = image_side_of(self.config.base).fixed_grid()
        height, width = projector.grid(*grid)
        patches = tuple(math.prod(grid) * count for count in pictures)
        told = tuple(f"{height}x{width}" if count else "-" for count in pictures)
        macs = {PROJECTOR: tuple(projector.macs(*grid) * count for count in pictures)}
        return ReductionRecord(0, patches, tokens, told, macs=macs)

    def _without_pictures(self, packed: Packed) -> Packed:
        """A batch of texts alone; its routes have a selector's site as those of every other batch do."""
        hidden_TD, selections = packed.state.hidden_TD, packed.selections
        if self.training or self.joins_ranks:
            # It runs tower and projector as well: every rank joins the same collectives (spec platform-conventions
            # 3.1).
            hidden_TD = blank_tokens(self.model, self.parts, self.image_side, hidden_TD)
        if self.parts.selector is not None or self.parts.resizer is not None:
            selections = (*selections, ReductionRecord.of_nothing(0, packed.state.num_samples))
        return replace(packed, state=packed.state.with_hidden(hidden_TD), selections=selections)

    def _with_pictures(self, packed: Packed, pixels: Pixels, inputs: ImageInputs) -> Packed:
        """Pictures' tokens in their rows, and behind selector or resizer what these leave."""
        state, ids, selections, runs = packed.state, packed.ids, packed.selections, packed.runs
        samples = [picture.sample for picture in ids.pictures]
        boxes = boxes_by_picture(ids, inputs.get("boxes"))
        seen = see(self.model, self.parts, self.image_side, pixels, inputs, samples, state, boxes)
        if seen.rows is None:
            state = with_tokens(state, seen)
        if self.parts.selector is not None:
            state, record = selected(self.parts.selector, state, seen, self.model_shape)
            selections = (*selections, record)
        if seen.runs is not None:
            state, record = resized(state, seen)
            selections, runs = (*selections, record), self._by_sample(ids, seen.runs)
        return replace(packed, state=state, selections=selections, vision=seen.vision, runs=runs)

    def _by_sample(self, ids: PackedIds, runs: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        """Runs of the tower, picture by picture, put together by sample."""
        found: list[tuple[int, ...]] = [()] * len(ids.lengths)
        for picture, patches in zip(ids.pictures, runs, strict=True):
            found[picture.sample] += patches
        return tuple(found)
