"""Activations as planned, against the memory that real training forwards of the tiny model hold on to."""

import gc

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dpn_model.cost.ledger import layers_per_stage
from dpn_platform.config.load import parse_config
from dpn_platform.planning.activations import activation_bytes, trace
from dpn_platform.planning.base_model import meta_model
from dpn_platform.planning.compute import SampleMeans
from dpn_platform.planning.memory import micro_batch_memory
from dpn_platform.training.base import build_model
from dpn_platform.training.base_config import base_config
from dpn_platform.training.optimizer import parameter_groups

SAMPLES, TEXT, SUPERVISED = 4, 40, 24
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class LiveStorages(TorchDispatchMode):
    """Remembers every storage that an operation made, without keeping it alive."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.seen[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return out

    def live_bytes(self, ignored):
        return sum(size for address, (ref, size) in self.seen.items() if not ref.expired() and address not in ignored)


def experiment(method, precision, checkpointed, vision_lr):
    train = {"precision": precision, "activation_checkpointing": checkpointed, "vision_lr": vision_lr}
    return parse_config({"name": "x", "model": {"base": "tiny"}, "method": method, "train": train})


def measured_bytes(config):
    """What is alive after a training forward, before its backward."""
    model, processor = build_model(config)
    parameter_groups(model, config.train)
    model = model.to(DTYPES[config.train.precision]).train()
    image_id = processor.tokenizer.convert_tokens_to_ids("<image>")
    row = [1, *[image_id] * model.num_visual_tokens(), *[7] * (TEXT - 2), model.config.router_token_id]
    ids = torch.tensor([row] * SAMPLES)
    labels = torch.full_like(ids, -100)
    labels[:, -SUPERVISED:] = 7
    pixels = torch.randn(SAMPLES, 3, 96, 96, dtype=model.lm_head.weight.dtype)
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    if config.train.vision_lr == 0:
        own.add(pixels.untyped_storage()._cdata)  # a tower that is trained keeps them, and the plan counts them
    with LiveStorages() as live:
        out = model(input_ids=ids, labels=labels, pixel_values=pixels)
        gc.collect()  # checkpointing leaves cycles behind
        held = live.live_bytes(own)
    out.loss.backward()
    return held


def planned_bytes(config, stages, sites=()):
    model = meta_model(base_config("tiny"), config.method, config.train)
    layers = layers_per_stage(8, sites)
    tokens = [SAMPLES * (visual + TEXT) for count, visual in zip(layers, stages, strict=True) for _ in range(count)]
    return activation_bytes(
        trace(model), tokens, [SAMPLES * visual for visual in stages], images=SAMPLES, supervised=SAMPLES * SUPERVISED,
        checkpointed=config.train.activation_checkpointing,
    )  # fmt: skip


DENSE = {"name": "dense"}, [64], ()
STATIC = {"name": "static", "kernel": "2x2"}, [64, 16, 4, 1], (2, 4, 6)


@pytest.mark.parametrize(
    ("case", "checkpointed", "vision_lr", "precision"),
    [
        (DENSE, False, 1e-3, "fp32"),
        (DENSE, False, 0, "bf16"),
        (DENSE, True, 1e-3, "fp32"),
        (DENSE, True, 0, "bf16"),
        (STATIC, False, 1e-3, "bf16"),
        (STATIC, True, 0, "fp32"),
    ],
)
def test_a_forward_holds_what_is_planned(case, checkpointed, vision_lr, precision):
    method, stages, sites = case
    config = experiment(method, precision, checkpointed, vision_lr)
    planned = planned_bytes(config, stages, sites)
    counted = planned.total - planned.recomputed
    # Measured, on all 16 combinations: 0.990 to 0.997 without checkpointing, 0.906 to 0.967 with it. Index tables, the
    # projector's output and the last hidden states are not counted: much beside layer inputs 96 wide, not 4096.
    assert counted / measured_bytes(config) == pytest.approx(1.0, abs=0.1 if checkpointed else 0.011)


def test_a_layer_of_vicuna_keeps_what_its_formula_says():
    """bf16, from LlamaDecoderLayer: two norms (fp32 copy, normed, output), q, k, v, output; gate, SiLU, up, product."""
    config = parse_config({"name": "x", "model": {"base": "llava-1.5-7b"}, "train": {"precision": "bf16"}})
    unit = trace(meta_model(base_config("llava-1.5-7b"), config.method, config.train))
    width, inner, heads = 4096, 11008, 32
    norms, attention, mlp = 2 * (4 + 2 + 2) * width + 2 * 4, 4 * 2 * width + 4 * heads, 4 * 2 * inner
    assert unit.layer == norms + attention + mlp
    assert unit.layer_input == 2 * width


def test_experts_in_place_of_an_ffn_are_planned_as_one():
    """Which tokens an expert takes follows from values, which a plan has none of."""
    units = [
        trace(meta_model(base_config("tiny"), config.method, config.train))
        for config in (experiment({"name": name}, "bf16", True, 0) for name in ("dense", "moe_llava"))
    ]
    assert units[0] == units[1]


def test_a_sample_that_goes_through_twice_keeps_its_picture_once():
    config = experiment({"name": "dense"}, "bf16", False, 0)
    unit = trace(meta_model(base_config("tiny"), config.method, config.train))
    means = SampleMeans(TEXT, SUPERVISED)
    once, twice = (micro_batch_memory(unit, config.train, [[(8, 64)]] * copies, means)["kept"] for copies in (1, 2))
    assert twice["vision"] == once["vision"] > 0
    assert twice["decoder"] + twice["head"] == 2 * (once["decoder"] + once["head"])
    assert twice["total"] == 2 * once["total"] - once["vision"]


def test_a_frozen_tower_is_not_recomputed():
    config = experiment({"name": "dense"}, "fp32", checkpointed=True, vision_lr=0)
    model, _ = build_model(config)
    parameter_groups(model, config.train)
    assert not model.train().model.vision_tower(torch.randn(1, 3, 96, 96)).last_hidden_state.requires_grad
