"""The three shipped settings of DPN (spec base-models A.4).

`default`: what we recommend where paper and release differ. `paper`: the equations as printed. `release`: what the
authors' scripts compute, where that can be repeated without harm. Their guards for a whole batch are not repeated
(every sample is treated by itself), their token floor holds in inference too, and nothing is padded back.
"""

from __future__ import annotations

from dpn_model.methods.dpn.settings import DpnSettings, RoutingLoss

PROFILES = ("default", "paper", "release")
#: λ of the paper, for LLaVA-1.5 and for LLaVA-HR (its section 5.2), and of the release for all
WEIGHT_LLAVA, WEIGHT_HIGH_RESOLUTION, WEIGHT_RELEASE = 0.01, 1.0, 0.001
#: the release never trains an expert that leaves fewer tokens
RELEASE_MIN_TOKENS = 18


def method_profile(name: str, *, high_resolution: bool = False) -> DpnSettings:
    """A shipped profile; `dataclasses.replace` changes single settings.

    Args:
        name: "default", "paper" or "release".
        high_resolution: λ for LLaVA-HR and LLaVA-HR-X instead of LLaVA-1.5.

    Raises:
        ValueError: another name.
    """
    weight = WEIGHT_HIGH_RESOLUTION if high_resolution else WEIGHT_LLAVA
    if name == "default":
        return DpnSettings(routing_loss=RoutingLoss(weight=weight))
    if name == "paper":
        return DpnSettings(
            temperature=1.0, selection="top1", routing_loss=RoutingLoss(weight=weight, value="expectation")
        )
    if name == "release":
        return DpnSettings(
            min_tokens=RELEASE_MIN_TOKENS,
            infeasible="resample",
            routing_loss=RoutingLoss(weight=WEIGHT_RELEASE, is_detached=True),
        )
    raise ValueError(f"unknown profile {name!r}; allowed: {', '.join(PROFILES)}")
