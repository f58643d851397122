"""MQT-LLaVA: nested queries, an even number of them drawn a step, keys that tell places."""

from __future__ import annotations

import torch

from dpn_model import Method
from dpn_model.methods.mqt.projector import FirstQueries, MatryoshkaQueries
from dpn_model.methods.probe import VisionProbe
from dpn_model.methods.projecting.settings import Sizes
from dpn_model.methods.registry import find_method
from dpn_model.methods.settings import MethodSettings
from dpn_model.packing import ImageSpan

IMAGES = [ImageSpan(0, 0, 16, 16), ImageSpan(1, 256, 16, 16)]


def counts(settings: MethodSettings, *, training: bool, times: int = 1) -> list[list[int]]:
    selector = FirstQueries(settings).train(training)
    tokens = torch.zeros(512, 3)
    return [[len(rows.windows) for rows in selector(tokens, IMAGES, VisionProbe(()))] for _ in range(times)]


def test_the_authors_sizes() -> None:
    with torch.device("meta"):
        projector = MatryoshkaQueries(Method("mqt"), Sizes(1024, 4096, 24, 24))
    assert (projector.grid(24, 24), projector.attention.heads) == ((16, 16), 16)
    attention, norms = 4 * (1024**2 + 1024), 3 * 2 * 1024
    assert sum(weight.numel() for weight in projector.parameters()) == attention + norms + 256 * 1024 + 1024 * 4096
    assert find_method("mqt").needs_training == "stage 1+2"


def test_a_training_step_draws_one_even_number() -> None:
    torch.manual_seed(0)
    drawn = counts(Method("mqt"), training=True, times=300)
    assert all(first == second for first, second in drawn)
    firsts = {first for first, _ in drawn}
    assert all(count % 2 == 0 for count in firsts)
    assert min(firsts) >= 2
    assert max(firsts) <= 256
    assert len(firsts) > 60
    torch.manual_seed(0)
    assert counts(Method("mqt"), training=True, times=300) == drawn


def test_elsewhere_the_first_ones_go_on() -> None:
    assert counts(Method("mqt"), training=False) == [[256, 256]]
    assert counts(Method("mqt", keep=0.25), training=False) == [[64, 64]]
    assert counts(Method("mqt", keep=36, elastic=False), training=True) == [[36, 36]]
    selector = FirstQueries(Method("mqt", keep=3))
    assert selector.eval()(torch.zeros(512, 3), IMAGES, VisionProbe(()))[1].windows.tolist() == [[0], [1], [2]]
    assert FirstQueries(Method("mqt"))(torch.zeros(0, 3), [], VisionProbe(())) == []


@torch.no_grad()
def test_fewer_queries_give_the_first_tokens_of_many() -> None:
    projector = MatryoshkaQueries(Method("mqt"), Sizes(8, 6, 6, 6))
    projector.reset_parameters()
    features = torch.randn(2, 36, 8)
    whole = projector(features, 6, 6)
    query = projector.norm_query(projector.queries_VC + projector.positions_VC)[:4].expand(2, -1, -1)
    keys = []
    projector.norm_key.register_forward_hook(lambda _, given, out: keys.append(out))
    projector(features, 6, 6)
    part = projector.attention(query, keys[0], projector.norm_value(features)) @ projector.matrix_CD
    torch.testing.assert_close(part, whole[:, :4])


@torch.no_grad()
def test_keys_tell_places_or_what_is_there_as_well() -> None:
    seen = []
    for content_keys in (False, True):
        projector = MatryoshkaQueries(Method("mqt", content_keys=content_keys), Sizes(8, 6, 6, 6))
        projector.reset_parameters()
        projector.norm_key.register_forward_hook(lambda _, given, out: seen.append(given[0]))
        projector(torch.randn(2, 36, 8), 6, 6)
    places, contents = seen
    assert torch.equal(places[0], places[1])
    assert not torch.equal(contents[0], contents[1])
