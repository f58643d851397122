"""KV cache whose length differs per layer and per sample: layers after a reduction hold fewer tokens.

Shape letters: B samples, T packed tokens, N heads, H head width, S columns of the padded ids, P of them seen before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from dpn_model.cache_stages import CacheSlots, CacheStage
from dpn_model.packing import PackedSequence
from dpn_model.positions import positions_behind

#: what the installed transformers calls a cache in calls of layers, in `generate` and in outputs; renamed in 5.24
CACHE_NAME = next(f.name for f in fields(CausalLMOutputWithPast) if f.name in ("cache", "past_key_values"))
DEFAULT_ROOM = 64  # free slots behind the longest sample where the number of new tokens is not known


def cache_of(output: Any) -> Any:
    """The cache in an output of any of transformers' models, under whichever name; None without one."""
    return getattr(output, CACHE_NAME, None)


class PackedCache(Cache):
    """Keys and values of every layer, float[B, N, slots, H], each sample from slot 0 on.

    transformers' attention modules call `update` with the packed rows of one layer. While a batch is prefilled the
    rows are stored and returned as they are; later rows are appended and the whole layer is returned.

    Args:
        room: slots kept free behind the longest sample; a layer that runs out of them grows.
    """

    def __init__(self, room: int = DEFAULT_ROOM) -> None:
        super().__init__(layers=[])
        self.room = room
        self._keys: list[Tensor | None] = []  # None: nobody owns keys in that layer
        self._values: list[Tensor | None] = []
        self._stages: list[CacheStage] = []  # per layer; layers of one stage share the object
        self._open: CacheStage | None = None  # of the layers a prefill runs next
        self._slots: CacheSlots | None = None
        self._seen_BP: Tensor | None = None  # which columns of the padded ids were tokens
        self._prompt_columns = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"PackedCache({len(self)} layers, {self.get_seq_length()} columns)"

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns of the padded ids that have been run (transformers' meaning); tokens are in `stage(i).lengths`."""
        return 0 if self._seen_BP is None else self._seen_BP.shape[1]

    @property
    def num_samples(self) -> int:
        """B."""
        return len(self._stages[0].lengths) if self._stages else 0

    def stage(self, layer_idx: int) -> CacheStage:
        """What layer `layer_idx` (0-based) holds."""
        return self._stages[layer_idx]

    def open_stage(self, state: PackedSequence) -> None:
        """Prefill: the next layers run `state`."""
        offset_B = _behind(state) - _column(state.lengths, state.hidden_TD.device, state.position_ids_T.ndim)
        self._open = CacheStage(state.lengths, offset_B)
        self._slots = CacheSlots.behind((0,) * state.num_samples, state.lengths, state.hidden_TD.device)

    def forget(self, before: PackedSequence, after: PackedSequence) -> None:
        """Prefill: of `before`, which all layers so far ran, they keep the rows that are left in `after`."""
        kept_T = torch.isin(before.token_index_T, after.token_index_T)
        device = kept_T.device
        old = CacheSlots.behind((0,) * before.num_samples, before.lengths, device)
        new = CacheSlots.behind((0,) * after.num_samples, after.lengths, device)
        for tensors in (self._keys, self._values):
            for layer, whole in enumerate(tensors):
                assert whole is not None
                fewer = whole.new_zeros((*whole.shape[:2], new.longest + self.room, whole.shape[3]))
                fewer[new.sample_T, :, new.slot_T] = whole[old.sample_T[kept_T], :, old.slot_T[kept_T]]
                tensors[layer] = fewer
        offset_B = _behind(before) - _column(after.lengths, device, before.position_ids_T.ndim)
        self._stages = [CacheStage(after.lengths, offset_B)] * len(self._stages)

    @contextmanager
    def only(self, state: PackedSequence, lengths: tuple[int, ...], is_renumbered: bool = False) -> Iterator[None]:
        """Prefill: one layer runs so many of each sample's rows; the stage that was open goes on behind it."""
        before = self._open, self._slots
        device = state.hidden_TD.device
        offset_B = _behind(state) - _column(lengths, device, state.position_ids_T.ndim)
        nothing_BN = torch.zeros(len(lengths), 0, dtype=torch.bool, device=device)
        offset_B = torch.zeros_like(offset_B) if is_renumbered else offset_B
        self._open = CacheStage(lengths, offset_B, nothing_BN, is_renumbered)
        self._slots = CacheSlots.behind((0,) * len(lengths), lengths, device)
        yield
        if not any(lengths):  # the layer did not run
            self._stages.append(self._open)
            self._keys.append(None)
            self._values.append(None)
        self._open, self._slots = before

    def place(self, slots: CacheSlots) -> None:
        """Later steps: where the next layers write."""
        self._slots = slots

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Store float[1, N, T, H] rows of layer `layer_idx` (0-based); see the class for what is returned.

        Rows behind those that have a slot are riders' (`attention.riders`): nobody looks at them later.
        """
        assert self._slots is not None
        slots = self._slots
        is_prefill = layer_idx == len(self._keys)
        if is_prefill:
            assert self._open is not None
            self._stages.append(self._open)
            self._keys.append(None)
            self._values.append(None)
        stored = []
        for tensors, states in ((self._keys, key_states), (self._values, value_states)):
            whole = tensors[layer_idx]
            if whole is None:
                samples = len(self._stages[layer_idx].lengths)
                shape = (samples, states.shape[1], slots.longest + self.room, states.shape[3])
                whole = states.new_zeros(shape)
            elif (missing := slots.longest - whole.shape[2]) > 0:
                more = whole.new_zeros((*whole.shape[:2], missing + self.room, whole.shape[3]))
                whole = torch.cat([whole, more], dim=2)
            whole[slots.sample_T, :, slots.slot_T] = states[0, :, : len(slots.sample_T)].transpose(0, 1)
            tensors[layer_idx] = whole
            stored.append(whole)
        if is_prefill:
            return key_states, value_states
        return stored[0][:, :, : slots.longest], stored[1][:, :, : slots.longest]

    def close_step(self, new: tuple[int, ...], is_token_BS: Tensor) -> None:
        """All layers have stored their rows: `new` per sample, from the columns bool[B, S] of the padded ids."""
        if self._seen_BP is None:  # a prefill: its stages already count the rows
            self._seen_BP = is_token_BS
            self._prompt_columns = is_token_BS.shape[1]
            return
        self._seen_BP = torch.cat([self._seen_BP, is_token_BS], dim=1)
        for stage in self._distinct_stages():
            stage.grow(new, is_token_BS)

    def forget_masked(self, attention_mask: Tensor) -> None:
        """Drop answers' last tokens that a later turn masks out, as the padding behind an early end of answer.

        Args:
            attention_mask: [B, S], the columns seen so far first.

        Raises:
            ValueError: the mask is too short, unmasks padding, or masks tokens that others were built on.
        """
        assert self._seen_BP is not None
        past = self.get_seq_length()
        if attention_mask.shape[0] != self.num_samples or attention_mask.shape[1] <= past:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}; allowed with past_key_values: "
                f"{self.num_samples} rows and the {past} columns seen, followed by new ones"
            )
        kept_BP = attention_mask[:, :past].bool()
        dropped_BP = self._seen_BP & ~kept_BP
        behind_BP = self._seen_BP & (dropped_BP.cumsum(1) > 0)  # everything from the first dropped token on
        is_prompt = torch.arange(past, device=kept_BP.device) < self._prompt_columns
        if bool(((kept_BP & ~self._seen_BP) | (behind_BP & ~dropped_BP) | (dropped_BP & is_prompt)).any()):
            raise ValueError(
                "attention_mask differs from the one past_key_values were built with; allowed: masking the last "
                "generated tokens of a sample"
            )
        self._seen_BP = self._seen_BP & kept_BP
        for stage in self._distinct_stages():
            stage.drop(dropped_BP, self._prompt_columns)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every sample `repeats` times, copies side by side."""
        self.batch_select_indices(torch.repeat_interleave(torch.arange(self.num_samples), repeats))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Sample i becomes what sample `beam_idx[i]` was (beam search)."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the samples `indices` int64[B'], in that order; one may be named several times."""
        assert self._seen_BP is not None
        on_device = indices.to(self._seen_BP.device)
        samples = indices.tolist()
        self._keys, self._values = (
            [None if one is None else one.index_select(0, on_device) for one in tensors]
            for tensors in (self._keys, self._values)
        )
        self._seen_BP = self._seen_BP.index_select(0, on_device)
        for stage in self._distinct_stages():
            stage.lengths = tuple(stage.lengths[sample] for sample in samples)
            stage.position_offset_B = stage.position_offset_B.index_select(0, on_device)
            if stage.owned_BN is not None:
                stage.owned_BN = stage.owned_BN.index_select(0, on_device)

    def tile(self, num_samples: int) -> None:
        """A prefill in which samples multiplied is over, and every layer gets as many as the last.

        Sample i of `num_samples` has in every layer what i modulo the layer's samples left there.
        """
        for layer, stage in enumerate(self._stages):
            times = num_samples // len(stage.lengths)
            if times == 1:
                continue
            for tensors in (self._keys, self._values):
                whole = tensors[layer]
                tensors[layer] = None if whole is None else whole.repeat(times, 1, 1, 1)
        for stage in self._distinct_stages():
            times = num_samples // len(stage.lengths)
            stage.lengths = stage.lengths * times
            stage.position_offset_B = stage.position_offset_B.repeat(times, *[1] * (stage.position_offset_B.ndim - 1))

    def _distinct_stages(self) -> list[CacheStage]:
        return list({id(stage): stage for stage in self._stages}.values())


def _behind(state: PackedSequence) -> Tensor:
    """int64[B] or int64[B, 3]: rotary position of the token that comes behind each sample."""
    return positions_behind(
        state.position_ids_T, torch.tensor(state.lengths, device=state.hidden_TD.device).cumsum(0) - 1
    )


def _column(lengths: tuple[int, ...], device: torch.device, ndim: int) -> Tensor:
    """int64[B] or int64[B, 1]."""
    return torch.tensor(lengths, device=device).view(-1, *[1] * (ndim - 1))
