"""DpnConfig: a base model's own configuration plus the method attached to it; and that of a named base."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, LlavaConfig, PreTrainedConfig

from dpn_model.bases.catalogue import named_base
from dpn_model.bases.chatrex.model import ChatRexConfig
from dpn_model.bases.llava_hr.model import LlavaHrConfig
from dpn_model.bases.tiny_bases import NamedBase
from dpn_model.methods.registry import DENSE, settings_of
from dpn_model.methods.settings import MethodSettings


class DpnConfig(PreTrainedConfig):
    """Configuration of `DpnForConditionalGeneration`.

    Args:
        base_config: the base's configuration (LLaVA, LLaVA-HR, Qwen-VL), or its dictionary.
        method: its settings, or their dictionary; default: no reduction.
        router_token_id: id of `<ROUTER>`; None while the tokenizer has none.
        dial: a calibrated budget dial and where it stands (`dpn_model.methods.dpn.calibration`), or None.
    """

    model_type = "dpn"

    def __init__(
        self,
        base_config: dict[str, Any] | PreTrainedConfig | None = None,
        method: dict[str, Any] | MethodSettings | None = None,
        router_token_id: int | None = None,
        dial: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(base_config, PreTrainedConfig):
            base_config = base_config.to_dict()
        self.base_config = base_config or LlavaConfig().to_dict()
        method = method if isinstance(method, MethodSettings) else settings_of(method or {"name": DENSE})
        self.method = method.to_dict()
        self.router_token_id = router_token_id
        self.dial = dial
        kwargs.pop("tie_word_embeddings", None)  # the base's own, below
        super().__init__(**kwargs)

    @property
    def base(self) -> PreTrainedConfig:
        """The base's configuration object (a fresh one: change `base_config`, not this)."""
        values = {key: value for key, value in self.base_config.items() if key != "model_type"}
        base = AutoConfig.for_model(self.base_config["model_type"], **values)
        # Parts of a model have one type of numbers, that which was asked for, whatever it was when they were saved.
        for config in (base, *(getattr(base, name) for name in base.sub_configs)):
            if config is not None:
                config.dtype = None
        return base

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the decoder's embedding is its head as well."""
        return bool(getattr(self.base, "tie_word_embeddings", False))

    @property
    def method_settings(self) -> MethodSettings:
        """The method's settings."""
        return settings_of(self.method)

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """transformers asks for the decoder's configuration through this."""
        return self.base.text_config


AutoConfig.register(ChatRexConfig.model_type, ChatRexConfig)
AutoConfig.register(LlavaHrConfig.model_type, LlavaHrConfig)
AutoConfig.register(DpnConfig.model_type, DpnConfig)


def base_config(name: str) -> DpnConfig:
    """Configuration of a named base (`bases.catalogue`), dense.

    Raises:
        ValueError: unknown name.
    """
    return config_of(named_base(name))


def config_of(base: NamedBase) -> DpnConfig:
    """The same of a base's plain data, with every other field at transformers' default."""
    return DpnConfig(AutoConfig.for_model(**base.base_config), router_token_id=base.router_token_id)
