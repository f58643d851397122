"""Shards and batches: pictures stay together, names say what is inside, nothing is asked twice or left out."""

from dataclasses import replace

import pytest

from dpn_platform.benchmarks.files.questions import PictureRef, Question
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.contract import EncodedQuestion
from dpn_platform.evaluation.runner.actor import batches
from dpn_platform.evaluation.runner.costs import cost_of
from dpn_platform.evaluation.runner.pictures import decode
from dpn_platform.evaluation.runner.shards import cut
from tests.scored_benchmarks.small_pieces import picture


def questions(count=20):
    """Every fourth is about the same picture as the one before it was not: groups are spread over the file."""
    return [
        Question(n, n, f"q{n}", f"q{n}", 128 if n % 5 else 16, (PictureRef(f"file:///p{n % 7}"),), f"p{n % 7}", "f")
        for n in range(count)
    ]


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_shards_hold_every_question_once_and_pictures_stay_together(size):
    shards = cut(questions(), {"checkpoint": "a"}, size)
    assert sorted(question.place for shard in shards for question in shard.questions) == list(range(20))
    assert all(len(shard.questions) <= size for shard in shards)
    if size >= 3:
        assert sum(len(shard.pictures()) for shard in shards) == 7
    assert len({shard.name for shard in shards}) == len(shards)


def test_a_shard_s_name_changes_with_what_its_answers_depend_on():
    first = cut(questions(), {"checkpoint": "a"}, 100)[0].name
    assert cut(questions(), {"checkpoint": "a"}, 100)[0].name == first
    asked = questions()
    changes = [
        {"text": "another"},
        {"id": 77},
        {"max_new_tokens": 3},
        {"pictures": (PictureRef(data=b"x"),)},
        {"fixed_answer": "A"},
    ]
    names = {cut([replace(asked[0], **change), *asked[1:]], {"checkpoint": "a"}, 100)[0].name for change in changes}
    assert len(names | {first, cut(questions(), {"checkpoint": "b"}, 100)[0].name}) == len(changes) + 2


def test_batches_have_one_limit_one_kind_and_similar_lengths():
    asked = questions()
    encoded = [EncodedQuestion((7 * n) % 11, n % 3 > 0, None) for n in range(20)]
    found = list(batches(asked, encoded, 4))
    assert sorted(place for batch in found for place in batch) == list(range(20))
    for batch in found:
        assert len(batch) <= 4
        assert len({(asked[place].max_new_tokens, encoded[place].has_picture) for place in batch}) == 1
        lengths = [encoded[place].length for place in batch]
        assert lengths == sorted(lengths)


def test_a_broken_picture_is_named():
    whole = picture(1)
    assert decode(whole, PictureRef("file:///x.png")).image.size == (21, 16)
    for data in (b"", b"no picture", whole[: len(whole) // 2]):
        with pytest.raises(DpnError, match=r"file:///x\.png: not a picture"):
            decode(data, PictureRef("file:///x.png"))
    with pytest.raises(DpnError, match=r"d\.parquet, row 3, column image"):
        decode(b"", PictureRef("d.parquet", "image", 3))


def test_costs_are_means_of_what_ran_and_none_where_unknown(lines_of):
    asked = [*questions(2), replace(questions(3)[2], pictures=()), replace(questions(4)[3], fixed_answer="A")]
    timing = {"num_samples": 4, "vision_s": 1.0, "prefill_s": 2.0, "decode_s": 1.0, "decode_tokens": 10}
    times = [{"timing": timing, "wall_s": 2.0, "num_questions": 2, "run": {"batch_size": 4}}] * 2
    costs = cost_of(lines_of(asked, ["a"] * 4), times)
    assert (costs["flops_ratio_eq8"], costs["flops_ratio_swiglu"]) == (0.5, 0.75)
    assert (costs["visual_tokens_mean"], costs["visual_tokens_before_reduction"]) == (40.0, 64.0)
    assert costs["routes"] == {"2x2": 2}, "neither a question without picture nor one that was not run takes a route"
    assert (costs["num_timed"], costs["vision_ms"], costs["prefill_ms"]) == (8, 250.0, 500.0)
    assert (costs["decode_ms_per_token"], costs["samples_per_second"]) == (100.0, 1.0)
    assert costs["samples_per_second_with_host"] == 1.0
    assert costs["run"] == [{"batch_size": 4}]
    assert cost_of([], [])["samples_per_second"] is None
