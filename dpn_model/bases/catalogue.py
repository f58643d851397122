"""The named bases: what each costs, and how each is built. A new base is one line here.

A base without a configuration can be costed (`dpn flops`) but not yet built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dpn_model.bases.llava import llava_7b_config, llava_13b_config
from dpn_model.bases.llava_hr_shape import CONVNEXT_L, CONVNEXT_XXL, llava_hr_shape
from dpn_model.bases.tiny import tiny_config
from dpn_model.configuration import DpnConfig
from dpn_model.cost import ModelShape
from dpn_model.flops import DecoderShape

#: words of the demo set's tokenizer; only `lm_head` and the number of parameters depend on it
TINY_VOCAB_SIZE = 70


@dataclass(frozen=True)
class NamedBase:
    """One entry: `config` builds the configuration, `shape` says what it costs without one."""

    config: Callable[[], DpnConfig] | None = None
    shape: Callable[[], ModelShape] | None = None


def _hr_shape(config: Callable[[], DpnConfig], stages: tuple[tuple[int, int], ...]) -> ModelShape:
    """LLaVA-HR keeps the decoder of the LLaVA-1.5 of its size."""
    return llava_hr_shape(DecoderShape.from_config(config().base.text_config), stages)


BASES: dict[str, NamedBase] = {
    "tiny": NamedBase(config=partial(tiny_config, TINY_VOCAB_SIZE)),
    "llava-1.5-7b": NamedBase(config=llava_7b_config),
    "llava-1.5-13b": NamedBase(config=llava_13b_config),
    "llava-hr-7b": NamedBase(shape=partial(_hr_shape, llava_7b_config, CONVNEXT_L)),
    "llava-hr-x-13b": NamedBase(shape=partial(_hr_shape, llava_13b_config, CONVNEXT_XXL)),
}


def base_config(name: str) -> DpnConfig:
    """Configuration of a named base, dense.

    Raises:
        ValueError: unknown name, or a base that cannot be built yet.
    """
    config = _find(name).config
    if config is None:
        buildable = ", ".join(key for key, base in BASES.items() if base.config)
        raise ValueError(f"model = {name!r} has a known cost but no configuration; allowed: {buildable}")
    return config()


def base_shape(name: str) -> ModelShape:
    """What a named base's cost follows from.

    Raises:
        ValueError: unknown name.
    """
    base = _find(name)
    return base.shape() if base.shape else ModelShape.from_llava(base_config(name).base)


def _find(name: str) -> NamedBase:
    if name not in BASES:
        raise ValueError(f"model = {name!r} is not a named base; allowed: {', '.join(BASES)}")
    return BASES[name]
