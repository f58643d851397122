"""A variant that shrinks pictures beside variants that share one run of the tower: each sees its own."""

import torch

from dpn_model import DpnForConditionalGeneration, Method
from dpn_model.bases.shapes import model_shape
from dpn_model.tiny import tiny_config
from dpn_platform.evaluation.answering.packed_model import sample_costs
from dpn_platform.evaluation.answering.remembered_images import RememberedImages


@torch.no_grad()
def test_pictures_of_fewer_pixels_are_not_those_remembered() -> None:
    torch.manual_seed(0)
    model = DpnForConditionalGeneration(tiny_config(70)).eval()
    pixels = [torch.randn(3, 96, 96)]
    ids = torch.tensor([[3, *[model.image_token_id] * 64, 9, 10]])
    dense = model(ids, pixel_values=pixels)
    images = RememberedImages(model.image_side)
    images.learn(model.model, pixels)
    for method in (Method("downsample"), Method("dense")):
        model.configure_method(method)
        expected = model(ids, pixel_values=pixels).logits
        images.over(model.image_side, model.parts)
        model.image_side = images
        torch.testing.assert_close(model(ids, pixel_values=pixels).logits, expected)
    model.configure_method(Method("downsample"))
    costs = sample_costs(model, model_shape(model.config.base), model(ids, pixel_values=pixels).routing)[0]
    assert costs["executed_macs"] < costs["executed_dense"]
    assert costs["executed_dense"] == dense.routing.cost(0, "swiglu").total
