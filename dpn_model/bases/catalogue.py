"""The named bases. A new base is one line here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dpn_model.bases.llava import llava_7b_config, llava_13b_config
from dpn_model.bases.llava_hr.sizes import llava_hr_7b_config, llava_hr_x_13b_config
from dpn_model.bases.shapes import model_shape
from dpn_model.bases.tiny import tiny_config
from dpn_model.configuration import DpnConfig
from dpn_model.cost.bill import ModelShape

#: words of the demo set's tokenizer; only `lm_head` and the number of parameters depend on it
TINY_VOCAB_SIZE = 70

BASES: dict[str, Callable[[], DpnConfig]] = {
    "tiny": partial(tiny_config, TINY_VOCAB_SIZE),
    "llava-1.5-7b": llava_7b_config,
    "llava-1.5-13b": llava_13b_config,
    "llava-hr-7b": llava_hr_7b_config,
    "llava-hr-x-13b": llava_hr_x_13b_config,
}


def base_config(name: str) -> DpnConfig:
    """Configuration of a named base, dense.

    Raises:
        ValueError: unknown name.
    """
    if name not in BASES:
        raise ValueError(f"model = {name!r} is not a named base; allowed: {', '.join(BASES)}")
    return BASES[name]()


def base_shape(name: str) -> ModelShape:
    """What a named base's cost follows from. Raises as `base_config`."""
    return model_shape(base_config(name).base)
