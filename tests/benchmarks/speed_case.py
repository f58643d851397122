"""The model and the batch of `packed_speed.py`: sizes, a mixture of routes, and whole answers from pictures."""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method
from dpn_model.configuration import base_config
from dpn_model.cost.bill import cost_parts
from dpn_model.cost.ledger import Ledger, sample_cost
from dpn_model.methods.records import ReductionRecord
from tests.benchmarks.execution_paths import Case, ToldExperts

BASES = ("toy", "llava-1.5-7b", "llava-1.5-13b")
ANSWER_TOKENS = 8
#: shares of the experts 1x1, 1x2, 2x2 at every site of the mixture
MIXTURE = (0.3, 0.35, 0.35)


def toy_config(image_size: int = 96) -> DpnConfig:
    """12 layers of 256, a visual token for every 8x8 pixels: 12x12 of them by default (spec performance 1.4)."""
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=image_size,
        patch_size=8,
    )
    text = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    base = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=500,
        image_seq_length=(image_size // 8) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    return DpnConfig(base_config=base, router_token_id=501)


def make_case(options: argparse.Namespace) -> Case:
    """A model with random weights, and a batch of one picture and some text per sample."""
    config = toy_config() if options.base == "toy" else base_config(options.base)
    model = random_model(config, options)
    with torch.device(options.device):
        model.configure_method(Method(name="dpn"))
    generator = torch.Generator().manual_seed(options.seed)
    ids, mask, pixels = picture_inputs(model, options, generator)
    with torch.no_grad():
        state = model.pack(ids, mask, pixels, None).state
    return Case(model, state, told_reducers(model, options, generator), min(ANSWER_TOKENS, options.text[0]))


def random_model(config: DpnConfig, options: argparse.Namespace) -> DpnForConditionalGeneration:
    """Random weights, made on the device: float32 on a CPU, bfloat16 on a GPU; `options.layers` cuts the depth."""
    if options.layers:
        config.base_config["text_config"]["num_hidden_layers"] = options.layers
    with torch.device(options.device):
        torch.set_default_dtype(torch.bfloat16 if options.device == "cuda" else torch.float32)
        model = DpnForConditionalGeneration(config)
        torch.set_default_dtype(torch.float32)
    return model.eval()


def picture_inputs(
    model: DpnForConditionalGeneration, options: argparse.Namespace, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and pixels of one picture and some text per sample."""
    low, high = options.text
    text = torch.randint(low, high + 1, (options.batch,), generator=generator).tolist()
    ids, mask = prompts(model, text)
    size, like = model.config.base.vision_config.image_size, model.lm_head.weight
    pixels = torch.randn(options.batch, 3, size, size, generator=generator).to(like.device, like.dtype)
    return ids, mask, pixels


def prompts(model: DpnForConditionalGeneration, text: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of one picture between words, `<ROUTER>` last; right-padded, with their mask, on the host."""
    visual = model.num_visual_tokens()
    width = visual + max(text)
    ids = torch.full((len(text), width), 3)
    mask = torch.zeros(len(text), width, dtype=torch.long)
    for row, count in enumerate(text):
        ids[row, 1 : 1 + visual] = model.image_token_id
        ids[row, visual + count - 1] = model.config.router_token_id
        mask[row, : visual + count] = 1
    return ids, mask


def told_reducers(
    model: DpnForConditionalGeneration, options: argparse.Namespace, generator: torch.Generator
) -> dict[int, ToldExperts]:
    """Sites whose experts are those of `--route`, or drawn from the mixture."""
    reducers = {}
    for number, (layer, site) in enumerate(model.reducers.items()):
        if options.route:
            expert = site.expert_names.index(options.route.split(",")[number])
            experts = (expert,) * options.batch
        else:
            shares = torch.tensor(MIXTURE)
            experts = tuple(torch.multinomial(shares, options.batch, True, generator=generator).tolist())
        reducers[int(layer)] = ToldExperts(site, experts)
    return reducers


def true_flops_ratio(case: Case, records: list[ReductionRecord]) -> float:
    """FLOPs of the decoder that ran, over those without reduction: all samples together."""
    decoder = case.model.model_shape.decoder
    visual, sites = case.state.visual_tokens(), [record.layer for record in records]
    costs = [
        sample_cost(decoder, sites, (n, *(r.tokens_out[b] for r in records)), case.state.lengths[b] - n, "true")
        for b, n in enumerate(visual)
    ]
    return sum(cost.total for cost in costs) / sum(cost.dense for cost in costs)


def measure_answers(options: argparse.Namespace, case: Case) -> None:
    """Whole answers (vision, prefill, decoding) per second, dense and DPN on one route, against the FLOPs limit."""
    model, route = case.model, (options.route or "2x2,1x2,1x1").split(",")
    ids, mask = prompts(model, [options.text[1]] * options.batch)
    ids, mask = ids.to(options.device), mask.to(options.device)
    dtype, size = next(model.parameters()).dtype, model.config.base.vision_config.image_size
    pixels = torch.randn(options.batch, 3, size, size).to(options.device, dtype)
    for told in case.reducers.values():
        del told.site.decide  # type: ignore[union-attr]  # the class's own again
    seen: dict[str, list[float]] = {"dense": [], "DPN": []}
    spent: dict[str, int] = {}
    for _ in range(options.repeats + 1):
        for name, choice in (("dense", ["1x1"] * len(route)), ("DPN", route)):
            model.set_route(choice)
            start = time.perf_counter()
            model.generate(ids, mask, pixels, max_new_tokens=options.answers, min_new_tokens=options.answers)
            if options.device == "cuda":
                torch.cuda.synchronize()
            seen[name].append(time.perf_counter() - start)
            spent[name] = answer_flops(model, options.answers)
    speed_up = median(seen["dense"][1:]) / median(seen["DPN"][1:])
    limit = spent["dense"] / spent["DPN"]
    rate = options.batch / median(seen["DPN"][1:])
    print(f"\nanswers of {options.answers} tokens, route {','.join(route)}: {rate:.1f} samples/s")
    print(f"T5   speed-up over dense {speed_up:.3f}, FLOPs limit {limit:.3f}: {speed_up / limit:.3f} of it (>= 0.85)")


def answer_flops(model: DpnForConditionalGeneration, tokens: int) -> int:
    """FLOPs (`true`) of the batch that was just generated, everything included."""
    routing = model.last_routing
    assert routing is not None
    runs: list[Ledger] = [routing.ledger(sample) for sample in range(routing.num_samples)]
    parts = [cost_parts(model.model_shape, run, "true") for run in runs]
    return sum(part.total + (tokens - 1) * (part.decode_per_token + part.lm_head) for part in parts)
