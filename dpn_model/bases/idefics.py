"""Idefics3 and SmolVLM under the name that every other base has for its decoder."""

from __future__ import annotations

from typing import Any

from transformers import Idefics3Model, SmolVLMModel


class Idefics3Base(Idefics3Model):
    """transformers' model, parameter names included; `language_model` is its `text_model`."""

    @property
    def language_model(self) -> Any:
        """The decoder."""
        return self.text_model


class SmolVLMBase(SmolVLMModel):
    """As `Idefics3Base`."""

    @property
    def language_model(self) -> Any:
        """The decoder."""
        return self.text_model
