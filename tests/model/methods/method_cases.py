"""Settings with which every registered method is put through the property suite, on a toy of 8 layers and 8x8 patches.

A new method needs a line here, nothing else: `test_every_method.py` and its like run over this table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One way of running a method, and the properties it does not claim.

    Attributes:
        settings: as a recipe's section, without the name.
        identity: settings with which the method changes nothing, so that logits are dense; None where there are none.
        acts_on_text: samples without a picture are changed too (layers skipped, an FFN of its own).
        reads_answers: text behind the prompt would change what is decided, if it were there: a pass over prompt and
            answer is not what the cache continues.
        is_counted: torch's counter sees the method's own multiply-accumulates, all of them and no others; False where
            some are written elementwise.
        one_picture: a sample with two is refused.
        forgets: layers in front of a site keep no more for decoding than what is left there, so what follows the cache
            sees less than in one pass.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] | None = None
    acts_on_text: bool = False
    reads_answers: bool = False
    is_counted: bool = True
    one_picture: bool = False
    forgets: bool = False


#: by method; a method with several ways of working has several cases
CASES: dict[str, tuple[Case, ...]] = {
    "dense": (Case(identity={}),),
    "dpn": (
        Case({"temperature": 1.0, "routing_token": "first"}),
        Case({"scaling": "off", "routing_token": "first", "pool": "conv", "sandwich": {"drawn": 1}}, is_counted=False),
    ),
    "static": (
        Case(identity={"kernel": "1x1"}),
        Case({"kernel": "1x2", "pool": "avg"}),
        Case({"site_kernels": ["1x2", "2x1", "2x2"], "pool": "conv", "positions": "keep"}, is_counted=False),
    ),
    "random_kernel": (Case(identity={"experts": ["1x1"]}),),
    "random_drop": (Case(identity={"keep_ratio": 1.0}), Case({"sites": [0], "keep_ratio": 0.3})),
    "fastv": (
        Case(identity={"keep": 1.0}),
        Case({"query": "text", "positions": "contiguous"}, reads_answers=True),
        Case({"query": "all"}, reads_answers=True),
    ),
    "pyramiddrop": (
        Case(identity={"ratio": 1.0}),
        Case({"sites": [0, 3, 5], "ratios": [0.6, 0.3, 0.1], "positions": "keep"}),
    ),
    "downsample": (Case(identity={"keep": 1.0}), Case({"keep": 12.0})),
    "complexity": (
        Case({"thresholds": [2.0, 2.4]}, identity={"thresholds": [0.0, 0.0]}),
        Case({"measure": "spectrum", "thresholds": [0.9], "experts": ["1x1", "2x2"]}),
        Case({"measure": "features", "thresholds": [0.1], "experts": ["1x2", "2x2"]}),
    ),
    "uniform_grid": (Case(identity={"keep": 1.0}), Case({"keep": 21.0, "sites": [0, 4], "positions": "keep"})),
    "sparsevlm": (
        Case(identity={"keep": 1.0}),
        Case({"version": "v2"}, identity={"version": "v2", "keep": 1.0}),
        Case({"keep": 7, "positions": "keep", "heads": 0.5}),
        Case({"version": "v2", "keep": 0.6, "recycle": True, "rope_correction": False}),
    ),
    "hidrop": (
        Case(identity={"inject": 0, "exit": 0, "keep": 1.0, "ratio": 1.0}),
        Case({"inject": 1, "sites": [3, 2], "ratios": [0.1, 0.6], "exit": 5, "positions": "contiguous"}),
    ),
    "fastervlm": (Case(identity={"keep": 1.0}),),
    "prumerge": (
        Case(identity={"keep": 1.0, "neighbours": 0, "order": "spatial"}),
        Case({"plus": True, "positions": "keep", "order": "spatial"}),
        Case({"plus": True, "keep": 0.125}),
    ),
    "visionzip": (
        Case(identity={"keep": 1.0, "contextual": 0.0, "class_token": False}),
        Case({"class_token": False, "positions": "keep"}),
    ),
    "divprune": (Case(identity={"keep": 1.0}),),
    "cdpruner": (Case(identity={"keep": 1.0}), Case({"relevance": "none"}), Case({"theta": 0.5, "positions": "keep"})),
    "vispruner": (Case({"keep": 13.0}, identity={"keep": 1.0}), Case({"important": 0.0, "step": 3})),
    "holov": (Case({"keep": 20.0}, identity={"keep": 1.0}), Case({"chunks": 5})),
    "eadaprune": (Case(identity={"least": 1.0}), Case({"energy": 0.7, "least": 3.0, "most": 0.5})),
    "dart": (
        Case({"keep": 20.0}, identity={"keep": 1.0}, reads_answers=True),
        Case({"keep": 21.0, "count": "exact", "positions": "contiguous", "sites": [3]}, reads_answers=True),
    ),
    "vscan": (
        Case({"keep": 0.6, "local_layer": 1}, identity={"keep": 1.0, "late_keep": 1.0, "local_layer": 1}),
        Case({"keep": 11.0, "windows": 3, "late_keep": 5.0, "local_layer": 0, "positions": "keep", "sites": [3]}),
    ),
    "avgpool": (Case(identity={"kernel": "1x1"}), Case({"kernel": "2x4", "where": "post"})),
    "pixel_shuffle": (Case(), Case({"factor": 4, "order": "v1"})),
    "resampler": (Case(), Case({"variant": "honeybee", "layers": 2, "queries": 9})),
    "c_abstractor": (Case({"depth": 1}),),
    "ldpv2": (Case(), Case({"side": 3})),
    "tokenpacker": (Case(), Case({"query_residual": True, "scale": 4, "levels": [1, 3]})),
    "mqt": (Case(), Case({"keep": 7, "content_keys": True})),
    "gamma_mod": (
        Case({"threshold": 0.5}, acts_on_text=True),
        Case({"rule": "capacity", "positions": "keep"}, acts_on_text=True),
    ),
    "moe_llava": (Case(acts_on_text=True), Case({"top_k": 1, "layers": [2, 5]}, acts_on_text=True)),
    "roe_llava": (Case(), Case({"layers": [1, 3, 8], "adapter_width": 8})),
    "avg_llava": (Case(), Case({"attention": "tokens", "text_tokens": 2})),
    "llava_mini": (Case({"depth": 2}), Case({"depth": 1, "side": 2})),
    "m3": (Case({"scale": "2x2"}, identity={"scale": "1x1"}), Case({"scale": "all", "training": "sampled"})),
    "twigvlm": (Case(identity={"keep": 1.0, "wipe": 1.0}), Case({"wipe": 1.0, "depth": 1, "positions": "contiguous"})),
    "glimpse_prune": (
        Case({"width": 32}, identity={"width": 32, "threshold": 0.0}, forgets=True),
        Case({"width": 16, "sites": [3], "early_cache": "whole", "max_keep": 20.0, "levels": [4, 1]}),
        Case({"width": 16, "heads": 2, "positions": "contiguous", "max_keep": 0.3}, forgets=True),
    ),
    "vispco": (Case(identity={"budget": 1.0}), Case({"ratio": "predicted", "weight": 0.001})),
}
#: the same of the toy methods, one for every part of the contract
TOY_CASES: dict[str, tuple[Case, ...]] = {
    "toy_rank": (
        Case({"sites": [2, 5], "keep": 0.4}, identity={"keep": 1.0}),
        Case({"sites": [0, 5], "keep": 0.4, "look": "next_layer", "positions": "keep"}),
    ),
    "toy_merge": (Case({"sites": [0, 4]}),),
    "toy_select": (Case(is_counted=False), Case({"before": False}, is_counted=False)),
    "toy_projector": (Case(),),
    "toy_skip": (Case(), Case({"by": "token"}), Case({"by": "all"}, acts_on_text=True)),
    "toy_ffn": (Case(acts_on_text=True),),
}
EVERY = [
    (name if number == 0 else f"{name}-{number}", name, case)
    for name, cases in (CASES | TOY_CASES).items()
    for number, case in enumerate(cases)
]
