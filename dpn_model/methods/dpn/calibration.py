"""One checkpoint, many budgets: calibrate a DPN once, then reach any mean FLOPs ratio without retraining.

    calibrate(model, batches)
    model.set_budget(flops_ratio=0.40)

Calibration walks the tree of routes up to the last site and notes what the routers say at every place of it
(`measured`). A router's logits there do not depend on the dial, so everything after that is arithmetic (`budget`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dpn_model.cost.flops import CONVENTIONS, Convention
from dpn_model.methods.dpn.budget import Dial, build_dial
from dpn_model.methods.dpn.measured import Measured, measure
from dpn_model.methods.dpn.settings import DpnSettings
from dpn_model.methods.dpn.steering import DpnSteering

if TYPE_CHECKING:
    from dpn_model.modeling import DpnForConditionalGeneration

#: experts to the power of (sites - 1): so many times a batch of samples becomes as large
MAX_ROUTES = 256


def calibrate(
    model: DpnForConditionalGeneration, samples: Iterable[Mapping[str, Any]], convention: Convention = "eq8"
) -> Dial:
    """Measure what every budget takes on these samples, and keep it in `model.config.dial`.

    The dial then stands at no budget. Samples without an image cost the same on every route and are left out of the
    means, here and wherever a request is to be met. On these samples a request is met to within `budget.STEP`, or one
    sample's step; on others there remains the sampling error of both sets, which is the router's: the spread of costs
    between samples over the root of their number. The dial does not narrow that spread.

    Args:
        model: a DPN; its mode (training or not) is kept.
        samples: batches of any size, as `forward` takes them; labels are ignored. At the last site a batch is as many
            times larger as there are routes up to it.
        convention: in which FLOPs ratios are measured (`dpn_model.cost.flops`).

    Raises:
        ValueError: no router to bias, no sample with an image, too many routes, or an unknown convention.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention = {convention!r}; allowed: {', '.join(CONVENTIONS)}")
    steering = model.parts.steering
    if not isinstance(steering, DpnSteering):
        raise ValueError(f"method {model.config.method['name']} has no budget dial; only {DpnSettings.name} has")
    sizes = [len(site.kernels) for site in steering.sites]
    if math.prod(sizes[:-1]) > MAX_ROUTES:
        raise ValueError(
            f"experts per site {sizes} make {math.prod(sizes[:-1])} routes up to the last site; allowed: {MAX_ROUTES}"
        )
    was_training = model.training
    model.eval()
    try:
        prompts = ({name: value for name, value in batch.items() if name != "labels"} for batch in samples)
        measured = Measured.of(measure(model, prompts, convention))
    finally:
        model.train(was_training)
    dial = build_dial(measured.table([site.router for site in steering.sites]), convention)
    model.set_dial(dial.to_dict())
    return dial
