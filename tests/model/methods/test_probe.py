"""What a probe shows is what the layer really computed: against transformers' own attention, on every decoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING

from dpn_model.bases.decoders import DECODERS
from dpn_model.methods.contract import Parts, TokenReducer
from dpn_model.methods.probe import ATTENTION, NEXT_LAYER, Probe, VisionProbe, level, tower_layer
from dpn_model.methods.records import ReductionRecord
from dpn_model.packing import PackedSequence
from tests.model.families.conftest import FAMILIES
from tests.model.test_decoders import SETTINGS, inputs, llava_pair, tiny_decoder

TEXT_DECODERS = [kind for kind in DECODERS if not kind.startswith("qwen") or "_vl" not in kind]


class Looker(TokenReducer):
    """Takes nothing away and keeps what the probe said."""

    looks = frozenset({ATTENTION, NEXT_LAYER})

    def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
        if self.layer:
            self.attention = probe.attention()[0]
            assert probe.attention()[0] is self.attention, "worked out once"
        self.next_attention = probe.next_attention()[0]
        self.state, self.macs = state, probe.macs
        tokens = state.visual_tokens()
        return state, ReductionRecord(self.layer, tokens, tokens, ("all",) * len(tokens))


@pytest.mark.parametrize("kind", TEXT_DECODERS)
@torch.no_grad()
def test_attention_is_what_transformers_computes(kind: str) -> None:
    """The finished first layer, and the next one looked ahead at: heads kept, grouped queries, norms, rotary tables."""
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"the installed transformers has no {kind}")
    theirs, ours = llava_pair(tiny_decoder(kind, **SETTINGS.get(kind, {})))
    expected = theirs(**inputs(), output_attentions=True).attentions
    before, behind = Looker(0), Looker(1)
    ours.parts = Parts({0: before, 1: behind})
    ours(**inputs())
    last = behind.attention.shape[-1] - 1
    for layer, found in ((0, behind.attention), (0, before.next_attention), (1, behind.next_attention)):
        torch.testing.assert_close(found[:, 0], expected[layer][0, :, last], atol=2e-6, rtol=1e-5)
    assert found.dtype == torch.float32
    shape, rows = ours.model_shape.decoder, last + 1
    each = shape.query_size + 2 * shape.kv_size  # Phi-3 projects all at once
    projected = rows * each if kind == "phi3" else rows * shape.kv_size + shape.query_size
    assert before.macs[0] == projected * shape.hidden_size + rows * shape.query_size


@torch.no_grad()
def test_looking_ahead_works_out_what_is_asked_for_and_once() -> None:
    _, ours = llava_pair(tiny_decoder("llama"))
    shape = ours.model_shape.decoder

    class Twice(Looker):
        looks = frozenset({NEXT_LAYER})

        def forward(self, state: PackedSequence, probe: Probe) -> tuple[PackedSequence, ReductionRecord]:
            bills, rows = [], np.array([3, 7])
            for ask in (rows, rows[:1], np.array([5]), None):
                found = probe.next_queries_keys() if ask is None else probe.next_attention(ask)[0]
                bills.append(probe.macs[0])
            every = probe.next_attention(rows)[0]
            self.found, self.bills, self.every = found, bills, every
            tokens = state.visual_tokens()
            return state, ReductionRecord(self.layer, tokens, tokens, ("all",))

    looker = Twice(1)
    ours.parts = Parts({1: looker})
    total = ours(**inputs()).routing.text_tokens[0] + 16
    width, query, attended = shape.hidden_size, shape.query_size, total * shape.query_size
    first, again, other, whole = looker.bills
    assert first == width * (total * shape.kv_size + 2 * query) + 2 * attended
    assert again - first == attended, "those queries are there"
    assert other - again == width * query + attended, "keys are there"
    assert whole - other == width * total * query
    assert looker.found[0].shape == (total, 4, 8)


@torch.no_grad()
def test_rows_that_ask_are_every_turns_last_in_training() -> None:
    _, ours = llava_pair(tiny_decoder("llama"))
    looker = Looker(1)
    ours.parts = Parts({1: looker})
    batch = inputs()
    labels = batch["input_ids"].clone()
    labels[:, :22] = -100
    labels[:, 26:30] = -100  # a second turn's question
    ours(**batch, labels=labels)
    assert looker.state.asking_rows_R.tolist() == [21, 29]
    assert looker.attention.shape[1] == 2
    ours(**batch)
    assert looker.state.asking_rows_R.tolist() == [batch["input_ids"].shape[1] - 1]


def test_what_a_part_did_not_ask_for_is_not_shown() -> None:
    _, ours = llava_pair(tiny_decoder("llama"))

    class Blind(Looker):
        looks = frozenset()

    ours.parts = Parts({1: Blind(1)})
    with pytest.raises(ValueError, match="attention after layer 1 was asked for; 'attention' is not in its looks"):
        ours(**inputs())
    ours.parts = Parts({0: Blind(0)})
    with pytest.raises(ValueError, match="queries and keys behind layer 0 were asked for"):
        ours(**inputs())


@torch.no_grad()
def test_the_tower_shows_its_levels_and_its_class_tokens_attention() -> None:
    theirs, ours = llava_pair(tiny_decoder("llama"))
    pixels = inputs()["pixel_values"]
    tower = theirs.model.vision_tower
    tower.set_attn_implementation("eager")
    expected = tower(pixels, output_hidden_states=True, output_attentions=True)
    pictures = ours.image_side.tower(ours.model, pixels, {}, {level(1), tower_layer(-2), tower_layer(1)})
    probe = VisionProbe(pictures)
    torch.testing.assert_close(probe.level(1), expected.hidden_states[1])
    for layer in (-2, 1):
        torch.testing.assert_close(probe.cls_attention(layer), expected.attentions[layer][:, :, 0, 1:])
    assert probe.macs_per_picture == 2 * 17 * 16
    assert probe.keys().shape == probe.values().shape == probe.queries().shape == (1, 17, 16)
    features = torch.cat([picture.features_PC for picture in pictures])
    encoded = ours.image_side.encode(ours.model, pixels, {})
    torch.testing.assert_close(ours.image_side.project(ours.model, features), encoded)
    with pytest.raises(ValueError, match=r"layer:7 of the tower is looked at; it has 2"):
        ours.image_side.tower(ours.model, pixels, {}, {tower_layer(7)})


def test_bases_without_a_door_refuse_in_one_line() -> None:
    family = next(family for family in FAMILIES if family.kind == "qwen2_vl")
    _, ours = family.pair()
    with pytest.raises(ValueError, match="class token's attention, which the tower of qwen2_vl does not show"):
        ours.configure_method({"name": "toy_select"})
    with pytest.raises(ValueError, match="no fixed image grid; every image brings its own"):
        ours.configure_method({"name": "toy_projector"})
    with pytest.raises(ValueError, match="where base qwen2_vl has no place for it; bases that have: llava, llava_hr"):
        ours.image_side.tower(ours.model, torch.zeros(1), {}, ())
