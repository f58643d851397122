"""What an experiment will cost, computed from its configuration and the base's shape; no weights are loaded."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.method import MethodConfig
from dpn_platform.config.schema import ExperimentConfig

if TYPE_CHECKING:
    from dpn_model import DpnConfig, Method

_MACS_PER_STEP = 3  # a backward pass costs about two forward passes
_FLOPS_PER_MAC = 2


@dataclass(frozen=True)
class Bounds:
    """The cheapest and the dearest route a method can take."""

    low: float
    high: float


def batch_arithmetic(config: ExperimentConfig) -> dict[str, int]:
    """Steps and samples of one run."""
    train = config.train
    return {
        "steps": train.steps,
        "global_batch_size": train.global_batch_size,
        "micro_batch_size": train.micro_batch_size,
        "num_workers": train.num_workers,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "samples": train.steps * train.global_batch_size,
        "checkpoints": -(-train.steps // train.checkpoint_every_steps),
    }


def planned_methods(config: ExperimentConfig) -> list[tuple[str, MethodConfig, int]]:
    """(name, method, number of trials) of what will run: the controls and DPN's trials, or the one run."""
    if config.sweep is None:
        return [(config.method.name, config.method, 1)]
    methods = [(name, _control(config.method, name), 1) for name in config.sweep.controls]
    widest = sorted({kernel for experts in config.sweep.search.experts for kernel in experts})
    dpn = config.method.model_copy(update={"name": "dpn", "experts": tuple(widest)})
    return [*methods, ("dpn", dpn, config.sweep.num_trials)]


def base_config(base: str) -> DpnConfig:
    """Configuration of the base model a run starts from.

    Raises:
        ConfigError: no from_pretrained folder there.
    """
    import dpn_model

    if base == "tiny":
        from dpn_platform.training.base import build_tiny

        return build_tiny()[0].config
    with tempfile.TemporaryDirectory(prefix="dpn-plan-") as folder:
        if "://" in base:
            from dpn_platform.storage import read_bytes

            (Path(folder) / "config.json").write_bytes(read_bytes(f"{base.rstrip('/')}/config.json"))
            local = Path(folder)
        else:
            local = Path(base) if Path(base).exists() else Path(dpn_model.__file__).parents[1] / base
        if not (local / "config.json").is_file():
            raise ConfigError(f"model.base = '{base}': no from_pretrained folder there (or write 'tiny')")
        from transformers import AutoConfig

        loaded = AutoConfig.from_pretrained(str(local))
    return loaded if isinstance(loaded, dpn_model.DpnConfig) else dpn_model.DpnConfig(base_config=loaded)


def model_facts(config: DpnConfig) -> dict[str, int]:
    """Parameters and shape of the base, built without memory."""
    import torch

    from dpn_model import DpnForConditionalGeneration

    with torch.device("meta"):
        model = DpnForConditionalGeneration(config)
    text = config.base.text_config
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "decoder_layers": text.num_hidden_layers,
        "hidden_size": text.hidden_size,
        "visual_tokens": model.num_visual_tokens(),
    }


def method_cost(base: DpnConfig, method: MethodConfig, text_tokens: int) -> dict[str, Any]:
    """Sites, FLOPs ratios and multiply-accumulates of one sample's prefill, cheapest and dearest route.

    Args:
        base: of the model.
        method: what is attached to it.
        text_tokens: of one sample.

    Raises:
        ConfigError: sites or kernels that do not fit the model.
    """
    from dpn_model import Method
    from dpn_model.bases.shapes import model_shape
    from dpn_model.flops import MAC_CONVENTIONS, sample_cost

    shape = model_shape(base.base)
    decoder = shape.decoder
    if shape.image_grid is None:
        raise ConfigError(
            f"model.base: every image of a {base.base.model_type} brings its own grid; nothing to plan with"
        )
    settings = Method.from_dict(method.model_dump(mode="json"))
    try:
        sites = settings.by_site(decoder.num_layers)
    except ValueError as error:
        raise ConfigError(f"method.{error}") from None
    routes = [_tokens_per_stage(list(sites.values()), shape.image_grid, cheapest) for cheapest in (True, False)]
    cost: dict[str, Any] = {"sites": list(sites), "visual_tokens_at_the_end": Bounds(routes[0][-1], routes[1][-1])}
    for convention in MAC_CONVENTIONS:
        low, high = (sample_cost(decoder, list(sites), route, text_tokens, convention) for route in routes)
        cost[f"flops_ratio_{convention}"] = Bounds(low.ratio, high.ratio)
        cost[f"prefill_macs_{convention}"] = Bounds(low.total, high.total)
    return cost


def training_tflops(cost: dict[str, Any], samples: int) -> float:
    """Decoder FLOPs of training on `samples` on the dearest route, in 10^12, forward and backward."""
    macs: Bounds = cost["prefill_macs_swiglu"]
    return _FLOPS_PER_MAC * _MACS_PER_STEP * macs.high * samples / 1e12


def _tokens_per_stage(methods: Sequence[Method], grid: tuple[int, int], cheapest: bool) -> list[int]:
    """Visual tokens before the first site and after each, on the cheapest or the dearest route."""
    height, width = grid
    counts = [height * width]
    for method in methods:
        if method.name == "random_drop":
            counts.append(max(1, round(counts[-1] * method.keep_ratio)))
        else:
            height, width = _pooled(height, width, method, cheapest)
            counts.append(height * width)
    return counts


def _pooled(height: int, width: int, method: Method, cheapest: bool) -> tuple[int, int]:
    from dpn_model.method import parse_kernel
    from dpn_model.pyramid.experts import pooled_size

    is_static = method.name == "static"
    kernels = (method.kernel,) if is_static else method.experts
    sizes = [pooled_size(height, width, parse_kernel(kernel), method.rounding) for kernel in kernels]
    feasible = [size for size in sizes if size[0] * size[1] >= method.min_tokens]
    if not feasible:
        grid = f"a grid of {height}x{width} visual tokens"
        raise ConfigError(f"method.{'kernel' if is_static else 'experts'} = {', '.join(kernels)}: too large for {grid}")
    choose = min if cheapest else max
    return choose(feasible, key=lambda size: size[0] * size[1])


def _control(method: MethodConfig, name: str) -> MethodConfig:
    kind, _, kernel = name.partition("_") if name.startswith("static_") else (name, "", method.kernel)
    return method.model_copy(update={"name": kind, "kernel": kernel, "site_kernels": None})
