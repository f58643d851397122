"""Settings of the Dynamic Pyramid Network (spec base-models A.4: paper against release, options and defaults)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dpn_model.methods.pooling.settings import ExpertSettings
from dpn_model.methods.settings import check_settings, setting


@dataclass(frozen=True)
class RoutingLoss:
    """Eq. 6 and 7: weight * max(0, target - mean value of the decisions), in every reading of spec A.5.

    Attributes:
        weight: λ.
        target: t; it must move with `compression`.
        value: of one decision: "top1" C_j * p_j at the most probable expert j (the authors' code), "expectation" the
            sum of p_e * C_e, "expert_mean" that sum over the number of experts (eq. 6 to the letter).
        aggregation: mean over the whole batch and all sites, each site, or each sample, before the hinge.
        compression: C of an expert: log2 of its kernel's area {0, 1, 2}, the area {1, 2, 4}, its square root, or
            the mean stride {1, 1.5, 2}.
        is_detached: no gradient flows, as in the release under reentrant checkpointing.
    """

    weight: float = setting(0.01, "λ of eq. 7", ge=0)
    target: float = setting(1.5, "t of eq. 6, on the scale of `compression`", ge=0)
    value: Literal["top1", "expectation", "expert_mean"] = setting("top1", "what one decision contributes")
    aggregation: Literal["batch", "site", "sample"] = setting("batch", "over what the mean is taken before the hinge")
    compression: Literal["log2_area", "area", "sqrt_area", "mean_stride"] = setting("log2_area", "C of an expert")
    is_detached: bool = setting(False, "no gradient flows, as in the authors' release")

    def __post_init__(self) -> None:
        check_settings(self, "routing_loss.")


@dataclass(frozen=True)
class BatchShaping:
    """A prior on how decisions are spread over a batch: neither all alike, nor all undecided.

    A site's decisions, as expected compressions scaled to [0, 1], are held to a distribution whose mass lies at both
    ends, by the Cramér-von Mises distance of the sorted values (Bejnordi et al., 2020, who take Beta(0.6, 0.4); ours is
    Kumaraswamy's, which has a distribution function in closed form and nearly the same shape). The weight falls to 0
    over the training, as theirs does: then samples are where they belong.

    Attributes:
        weight: at the start; 0: off.
        a, b: of the distribution; below 1 each, mass at 0 and at 1.
    """

    weight: float = setting(0.0, "at the start, falling to 0; 0: off", ge=0)
    a: float = setting(0.6, "of Kumaraswamy's distribution; below 1: mass at no compression", gt=0)
    b: float = setting(0.4, "of Kumaraswamy's distribution; below 1: mass at the most compression", gt=0)

    def __post_init__(self) -> None:
        check_settings(self, "batch_shaping.")


@dataclass(frozen=True)
class Sandwich:
    """One checkpoint good on every route: each step trains several routes of every sample, side by side in one batch.

    The first copy of a sample leaves all it can at every site, the second takes all it can, the others take routes
    drawn for each sample, all experts alike. The language loss is the mean over all copies; what the first copy says
    of the answer teaches the others. Routers decide nothing meanwhile and learn nothing: see `RouteFit`. (Sandwich rule
    and in-place distillation: Yu and Huang, 2019; in multimodal LLMs M3, MQT and ViCO; spec frontier C.)

    Attributes:
        drawn: copies with drawn routes; 0: off, one copy of every sample takes its router's route, as in the paper.
        distillation: weight of the Kullback-Leibler divergence from the first copy to each of the others, a mean
            over supervised tokens.
    """

    drawn: int = setting(0, "drawn routes per sample beside the dearest and the cheapest; 0: off", ge=0)
    distillation: float = setting(0.33, "weight of KL from the dearest route to the others", ge=0)

    def __post_init__(self) -> None:
        check_settings(self, "sandwich.")

    @property
    def copies(self) -> int:
        """Passes of one sample through the decoder."""
        return self.drawn + 2 if self.drawn else 1


@dataclass(frozen=True)
class RouteFit:
    """Routers learned behind the training, from every route's measured loss on some training samples.

    The tree of routes is walked once (27 routes at 1/4, 1/2 and 3/4 of the depth cost about four dense passes), and
    the expected loss plus price times cost, under the routers' own probabilities, is minimised exactly: no draw, no
    estimate. What a site learns assumes what the later ones do by now, whatever that is, so labels are always of the
    policy as it stands, and ties teach nothing. See `route_fit`.

    Attributes:
        samples: pictured training samples whose routes are measured; 0: off.
        objective: what is minimised. "expected": the expected loss plus price, exactly. "score": the same from two
            drawn routes per sample, by the score function with the other draw as its baseline: unbiased, and noisy.
            "ranking": at every place of the tree, experts are put in the order of what lies behind them, pair by pair;
            ties are dropped.
        price: what a FLOPs ratio of 1 is worth in loss.
        target: mean FLOPs ratio that a batch is held to by moving the price (dual ascent from `price`), whatever single
            samples cost; None: the price stays.
        entropy: weight of the entropy of routes. With it a router's logits measure what an expert is worth, in units of
            this, which is what the budget dial moves; without, they only say which is best.
        ceiling: losses above are taken for this: one sample must not outweigh many.
        passes: over the samples.
        lr: of AdamW, falling to 0 as a cosine.
    """

    samples: int = setting(0, "training samples whose routes are measured behind the training; 0: off", ge=0)
    objective: Literal["expected", "score", "ranking"] = setting("expected", "what the routers are fitted by")
    price: float = setting(0.1, "what a FLOPs ratio of 1 is worth in loss", ge=0)
    target: float | None = setting(None, "mean FLOPs ratio that the price is moved to meet", gt=0)
    entropy: float = setting(0.02, "weight of the entropy of routes", gt=0)
    ceiling: float = setting(1.0, "losses above are taken for this", gt=0)
    passes: int = setting(60, "over the measured samples", ge=1)
    lr: float = setting(3e-3, "of the routers", gt=0)

    def __post_init__(self) -> None:
        check_settings(self, "route_fit.")


#: what `router_gradient: score` is the exact gradient with (`score_gradient`)
SCORE_NEEDS: dict[str, tuple[str, ...]] = {
    "selection": ("sample",),
    "infeasible": ("renormalise",),
    "scaling": ("off", "on"),
}


@dataclass(frozen=True)
class DpnSettings(ExpertSettings):
    """Settings of DPN.

    Attributes:
        router: "v1" (LayerNorm, Linear, GELU, Linear) or "linear" (spec A.3, v2).
        router_hidden_divisor: v1: hidden width is the model's over this.
        router_init: "release" (uniform by fan-in) or "zero" (last matrix zero: all experts equally probable).
        routing_token: which routing tokens of a sample are read: their mean (the authors'), the first turn's or
            the last one's. All turns of a sample share its pictures, so they share one route. In training on several
            turns, "mean" and "last" let the first answer be read behind a route that later questions, and answers
            before them, had a say in; "first" is causal, and what a single question gives at inference. With one turn
            all three are the same.
        temperature: divides router logits.
        temperature_start: training only: from here the temperature moves to `temperature`, by the same factor in every
            step; None: it stays.
        exploration: training only: share of decisions that are drawn from all feasible experts alike, at the start;
            it falls to 0 evenly.
        selection: training only: "sample", "top1" or "gumbel" (straight-through); inference takes the most
            probable expert.
        scaling: pooled tokens times the winning probability ("on"), not ("off"), or times p / stop_grad(p).
        router_gradient: the language loss reaches the router through the scaling alone ("scale", as in the paper),
            or also through the score function ("score", see `score_gradient`). That one differentiates the
            expected language loss over drawn routes, so routes must be drawn from the probabilities it reads, and
            nothing else may stand for that gradient: it needs selection = sample, infeasible = renormalise, and
            scaling = off or on.
        infeasible: probabilities are renormalised over the feasible experts, or stay as the router gave them
            while only feasible experts are drawn ("resample", the release).
        routing_loss: the hinge of eq. 6, and λ.
        batch_shaping: a prior on how a batch's decisions are spread.
        sandwich: training of all routes in place of the router's.
        route_fit: routers learned from measured routes.
    """

    name: ClassVar[str] = "dpn"
    router: Literal["v1", "linear"] = setting("v1", "two layers, or one matrix")
    router_hidden_divisor: int = setting(4, "v1: hidden width is the model's over this", ge=1)
    router_init: Literal["release", "zero"] = setting("release", "of its matrices; zero: all experts equally probable")
    routing_token: Literal["mean", "first", "last"] = setting(
        "mean",
        "which turns' routing tokens are read; mean and last let a first answer's route see later turns, first does "
        "not; one turn: all the same",
    )
    temperature: float = setting(10.0, "divides router logits", gt=0)
    temperature_start: float | None = setting(None, "training: from here to `temperature`; none: it stays", gt=0)
    exploration: float = setting(0.0, "training: share of random decisions at the start, falling to 0", ge=0, le=1)
    selection: Literal["sample", "top1", "gumbel"] = setting("sample", "how training chooses an expert")
    infeasible: Literal["renormalise", "resample"] = setting(
        "renormalise", "probabilities where not every expert is feasible"
    )
    scaling: Literal["on", "off", "straight_through"] = setting("on", "pooled tokens times the winning probability")
    router_gradient: Literal["scale", "score"] = setting(
        "scale",
        "how the language loss reaches the router: as in the paper, or also by its score function, which needs "
        "selection sample, infeasible renormalise and scaling off or on",
    )
    routing_loss: RoutingLoss = setting(RoutingLoss, "the hinge of eq. 6")
    batch_shaping: BatchShaping = setting(BatchShaping, "a prior on the spread of a batch's decisions")
    sandwich: Sandwich = setting(Sandwich, "training of all routes at once")
    route_fit: RouteFit = setting(RouteFit, "routers learned from measured routes")

    @property
    def calibrates_dial(self) -> bool:
        """See `MethodSettings`."""
        return self.route_fit.samples > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, is_on in (("sandwich.drawn", self.sandwich.drawn), ("route_fit.samples", self.route_fit.samples)):
            if is_on and self.scaling != "off":
                raise ValueError(
                    f"{name} = {is_on} with scaling = '{self.scaling}': a route's answers would depend on what the "
                    "routers say, which they have not learned yet; allowed: scaling off"
                )
        if self.sandwich.drawn and self.router_gradient == "score":
            raise ValueError(
                f"router_gradient = 'score' with sandwich.drawn = {self.sandwich.drawn}: no route of the sandwich is "
                "the router's; allowed: scale, or sandwich.drawn 0"
            )
        for name, much in (("exploration", self.exploration), ("batch_shaping.weight", self.batch_shaping.weight)):
            if much and self.sandwich.drawn:
                raise ValueError(
                    f"{name} = {much} with sandwich.drawn = {self.sandwich.drawn}: no route of the sandwich is the "
                    f"router's; allowed: {name} 0, or sandwich.drawn 0"
                )
        if self.router_gradient == "score" and self.exploration:
            raise ValueError(
                f"router_gradient = 'score' with exploration = {self.exploration}: its draws are not from the "
                "probabilities that it differentiates; allowed: 0"
            )
        for name, allowed in SCORE_NEEDS.items():
            if self.router_gradient == "score" and (given := getattr(self, name)) not in allowed:
                raise ValueError(f"router_gradient = 'score' with {name} = {given!r}; allowed: {', '.join(allowed)}")
