"""Low-rank adapters of the language model (LoRA, Hu et al. 2021), by peft: attached before a run, merged after it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from dpn_model import DpnForConditionalGeneration
from dpn_platform.config.errors import DpnError
from dpn_platform.config.training import LoraSettings

_NAME = "default"  # peft's, of an adapter that was given none


def attach_adapters(model: DpnForConditionalGeneration, lora: LoraSettings) -> None:
    """Put an adapter beside linear layers of the language model; it starts as zero. lm_head gets none, as in LLaVA.

    Raises:
        DpnError: a layer is named that the language model does not have.
    """
    from peft import LoraConfig, inject_adapter_in_model  # its import takes seconds

    decoder = model.model.language_model
    linear = {name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    targets = sorted(linear) if lora.target_modules is None else list(lora.target_modules)
    missing = [name for name in targets if name not in linear]
    if missing:
        raise DpnError(
            f"train.lora.target_modules: the language model has no linear layer {', '.join(missing)}; "
            f"allowed: {', '.join(sorted(linear))}"
        )
    settings = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    inject_adapter_in_model(settings, decoder)


def merged_weights(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without adapters that compute the same, under the names they had before.

    Args:
        model: the one the adapters are attached to.
        state: its weights, whole and fp32.
    """
    from peft.tuners.lora import LoraLayer

    merged = dict(state)
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            down, up = (merged.pop(f"{name}.lora_{side}.{_NAME}.weight") for side in "AB")
            for part in ("weight", "bias"):
                if f"{name}.base_layer.{part}" in merged:
                    merged[f"{name}.{part}"] = merged.pop(f"{name}.base_layer.{part}")
            merged[f"{name}.weight"] = merged[f"{name}.weight"] + module.scaling[_NAME] * (up @ down)
    return merged
