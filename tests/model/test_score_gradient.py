"""The score-function gradient: its formula, its direction, and that it is a gradient only."""

import pytest
import torch

from dpn_model import Method, RoutingLoss
from dpn_model.methods.dpn.losses import ScoreGradient
from dpn_model.methods.dpn.score_gradient import score_term
from dpn_model.methods.records import ReductionRecord
from dpn_model.tiny import build_tiny_model, tiny_config


def record(probs: torch.Tensor, chosen: tuple[int, ...], choices: tuple[str, ...]) -> ReductionRecord:
    tokens = (4,) * len(choices)
    return ReductionRecord(2, tokens, tokens, choices, probs, chosen, (0.0, 2.0))


def test_formula_over_two_sites_with_a_sample_without_image() -> None:
    # Samples 0 and 2 are routed, sample 1 is text; sample losses are 1.0 and 3.0 (means over their tokens).
    logits = torch.zeros(2, 2, 2, requires_grad=True)
    probs = logits.softmax(dim=-1)
    records = [record(probs[site], (0, 1), ("1x1", "-", "2x2")) for site in (0, 1)]
    losses, samples = torch.tensor([0.5, 1.5, 9.0, 3.0]), torch.tensor([0, 0, 1, 2])
    term = score_term(losses, samples, records)
    assert term.item() == 0
    term.backward()
    # d/d logit of log p(chosen) is (1 - p, -p) = (0.5, -0.5); advantages are 1 - 3 and 3 - 1, for 2 and 1 tokens of 4.
    expected = torch.tensor([[0.5 * -2 * 0.5, 0.5 * -2 * -0.5], [0.25 * 2 * -0.5, 0.25 * 2 * 0.5]])
    assert torch.allclose(logits.grad, expected.expand(2, 2, 2))


@pytest.mark.parametrize("choices", [("1x1", "-"), ("-", "-")])
def test_fewer_than_two_routed_samples_have_no_baseline(choices: tuple[str, ...]) -> None:
    routed = [number for number, choice in enumerate(choices) if choice != "-"]
    probs = torch.full((len(routed), 2), 0.5, requires_grad=True)
    for records in ([record(probs, (0,) * len(routed), choices)], []):
        term = score_term(torch.ones(2), torch.tensor([0, 1]), records)
        assert (term.item(), term.requires_grad) == (0, False)


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    config = tiny_config(60)
    image, router, word = config.base.image_token_index, config.router_token_id, 20
    ids = torch.tensor([[1, *[image] * 64, word, word + number, router, 30, 40 + number] for number in range(6)])
    labels = torch.full_like(ids, -100)
    labels[:, -2:] = ids[:, -2:]
    return {"input_ids": ids, "labels": labels, "pixel_values": torch.randn(6, 3, 96, 96)}


@pytest.mark.parametrize(("kind", "has_gradient"), [("scale", False), ("score", True)])
def test_without_scaling_and_hinge_only_the_score_reaches_the_router(kind: str, has_gradient: bool) -> None:
    torch.manual_seed(0)
    model = build_tiny_model(60).train()
    model.configure_method(
        Method(name="dpn", scaling="off", router_gradient=kind, routing_loss=RoutingLoss(weight=0.0))  # type: ignore[arg-type]
    )
    out = model(**batch())
    assert out.loss.item() == pytest.approx(out.loss_lm.item(), abs=1e-6)  # measured: 0
    out.loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if name.startswith("reducers.")]
    size = sum(float(gradient.abs().sum()) for gradient in gradients if gradient is not None)
    assert (size > 0) == has_gradient


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="router_gradient = 'reinforce'; allowed: scale, score"):
        Method(router_gradient="reinforce")  # type: ignore[arg-type]


@pytest.mark.parametrize("scaling", ["off", "on"])
def test_the_mean_over_all_draws_is_the_gradient_of_the_expected_loss(
    scaling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pair of routes of two samples of unequal length, by its probability, against the expectation's autograd."""
    torch.manual_seed(0)
    model = build_tiny_model(60).train()
    model.configure_method(
        Method(
            sites=(2, 5),
            experts=("1x1", "2x2"),
            temperature=0.2,
            scaling=scaling,  # type: ignore[arg-type]
            routing_loss=RoutingLoss(weight=0.0),
        )
    )
    inputs = {name: tensor[:2] for name, tensor in batch().items()}
    inputs["labels"][0, -1] = -100  # one sample has one supervised token, the other three
    inputs["labels"][1, -3] = 30
    weights = [parameter for name, parameter in model.named_parameters() if name.startswith(("reducers.", "model.l"))]
    found: dict[str, list[torch.Tensor]] = {}
    for kind in ("scale", "score"):
        model.parts.losses = (ScoreGradient(),) if kind == "score" else ()
        total, sums = 0.0, [torch.zeros_like(weight) for weight in weights]
        for number in range(16):
            draws = iter(torch.tensor([[number >> 3 & 1, number >> 2 & 1], [number >> 1 & 1, number & 1]]))
            monkeypatch.setattr(torch, "multinomial", lambda probs, count, draws=draws: next(draws)[:, None])
            out = model(**inputs)
            chosen = [
                record.router_probs_BE.gather(1, torch.tensor(record.expert_index)[:, None])
                for record in out.routing.records
            ]
            probability = torch.stack(chosen).prod()
            total += probability.item()
            weighted = probability * out.loss if kind == "scale" else probability.detach() * out.loss
            for place, part in enumerate(torch.autograd.grad(weighted, weights, allow_unused=True)):
                sums[place] += 0 if part is None else part
        assert total == pytest.approx(1, abs=1e-5)
        found[kind] = sums
    for expectation, estimate in zip(found["scale"], found["score"], strict=True):
        torch.testing.assert_close(estimate, expectation, atol=1e-5, rtol=1e-5)  # measured 1.8e-6
    assert max(float(gradient.abs().max()) for gradient in found["scale"][-4:]) > 1e-4
