"""`from_pretrained` and `save_pretrained` of the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from torch import Tensor
from transformers import PreTrainedModel

from dpn_model.configuration import DpnConfig
from dpn_model.weights.arguments import wanted_dtype
from dpn_model.weights.check import load_checked
from dpn_model.weights.folder import load_folder, save_folder


class Pretrained(PreTrainedModel):
    """A mixin of the model."""

    config: DpnConfig

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: Any, **kwargs: Any) -> Self:
        """Load a folder of ours, of transformers (LLaVA, Qwen-VL) or of authors (LLaVA, LLaVA-HR, DPN, ChatRex).

        A base without a method is dense until one is configured. Nothing but tensors is unpickled, no code of the
        folder's runs.

        Args:
            folder: on this machine.
            *args: none.
            **kwargs: `dtype` (or `torch_dtype`) of the weights: a torch.dtype, its name, or "auto" for that of the
                files; default float32.

        Raises:
            FileNotFoundError: no such folder, or no weights in it.
            ValueError: missing, unexpected or misshapen keys by name, settings that are not supported, files that are
                no weights, or other arguments.
        """
        source = load_folder(Path(folder), wanted_dtype(args, kwargs))
        with source.building():
            model = cls(source.config)
        model.tie_weights()
        load_checked(model, source.tensors, str(folder))
        if source.generation is not None:
            model.generation_config = source.generation
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, state_dict: Mapping[str, Tensor] | None = None, **_: Any) -> None:
        """Write configuration and weights (or a consolidated `state_dict`) as a from_pretrained folder."""
        generation = self.generation_config
        own = None if generation is None or generation._from_model_config else generation
        save_folder(Path(folder), self.config, self.state_dict() if state_dict is None else state_dict, own)
