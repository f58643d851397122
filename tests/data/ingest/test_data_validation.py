"""Each kind of bad record gets its own reason; odd but sound ones pass, or are repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.policy import KINDS, Findings, Policy, RejectedError
from dpn_platform.data.ingest.record_forms import as_conversation
from dpn_platform.data.ingest.spool import RecordSpool
from dpn_platform.data.ingest.validation import check_record, parse_record

ASK = {"from": "human", "value": "<image>\nWhat is it?"}
REPLY = {"from": "gpt", "value": "a cat"}
GOOD = {"id": "1", "image": "coco/x.jpg", "conversations": [ASK, REPLY]}


def turns(*values: str) -> list[dict[str, str]]:
    """A conversation whose speakers alternate."""
    return [{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)]


def test_good_record_is_described() -> None:
    checked = check_record({**GOOD, "family": "counting", "difficulty": 3}, Findings())

    assert (checked.id, checked.images, checked.source, checked.difficulty) == ("1", ("coco/x.jpg",), "counting", "3")
    assert (checked.num_turns, checked.text_length) == (1, len(ASK["value"]) + len(REPLY["value"]))


def test_source_falls_back_to_the_top_folder() -> None:
    assert check_record(GOOD, Findings()).source == "coco"
    assert check_record({"id": 5, "conversations": turns("q", "a")}, Findings()).source == "text"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "bad_id"),
        ({"id": None}, "bad_id"),
        ({"id": True}, "bad_id"),
        ({"conversations": []}, "bad_turns"),
        ({"conversations": "q"}, "bad_turns"),
        ({"conversations": [ASK]}, "bad_turns"),
        ({"conversations": [REPLY, ASK]}, "bad_turns"),
        ({"conversations": [ASK, {"from": "gpt", "value": 4}]}, "bad_turns"),
        ({"conversations": turns("<image>", "a")}, "empty_question"),
        ({"conversations": turns("<image> q", " \n")}, "empty_answer"),
        ({"conversations": turns("q", "a")}, "placeholder_mismatch"),
        ({"conversations": turns("<image> q", "a", "<image> q", "a")}, "placeholder_mismatch"),
        ({"conversations": turns("q", "<image>")}, "placeholder_mismatch"),
        ({"image": None}, "placeholder_mismatch"),
        ({"image": ["a.jpg", "b.jpg"]}, "placeholder_mismatch"),
        ({"image": ""}, "bad_image_path"),
        ({"image": "/etc/passwd"}, "bad_image_path"),
        ({"image": "coco/../../secret.jpg"}, "bad_image_path"),
        ({"image": "..\\secret.jpg"}, "bad_image_path"),
        ({"image": "s3://other/x.jpg"}, "bad_image_path"),
        ({"image": "a//b.jpg"}, "bad_image_path"),
        ({"image": "a/" + "b" * 300}, "bad_image_path"),
        ({"id": "\udcff"}, "not_utf8"),
        ({"conversations": turns("<image> q\ud800", "a")}, "not_utf8"),
    ],
)
def test_bad_record_is_refused_with_its_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedError) as refusal:
        check_record({**GOOD, **change}, Findings())
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": 1.0}, "'id' is the number 1.0; wanted a text or an integer"),
        ({"id": None}, "'id' is null"),
        ({"conversations": None}, "'conversations' is null; wanted id, image and conversations: "),
        (
            {"conversations": [{"role": "user", "content": "q"}] * 2},
            "turn 1 has the keys role, content; wanted {from: hu",
        ),
        ({"conversations": [{**ASK, "from": "user"}, REPLY]}, "turn 1 is from the text 'user'; wanted {from: human, "),
        ({"conversations": [{"from": "system", "value": "x"}, ASK, REPLY]}, "turn 1 is from the text 'system'"),
        ({"conversations": [ASK, {"from": "gpt", "value": 0}]}, "the value of turn 2 is the number 0; wanted"),
        ({"conversations": [ASK, ["gpt", "a"]]}, "turn 2 is a list of 2; wanted"),
        ({"image": ""}, "'image' is an empty text; wanted a path"),
        ({"image": 7}, "'image' is the number 7; wanted a path"),
        ({"image": ["a.jpg", None]}, "an entry of 'image' is null; wanted a path"),
        ({"image": "/data/x.jpg"}, "an absolute path: '/data/x.jpg'; wanted a path below an image root"),
        ({"image": "coco\\x.jpg"}, "wanted slashes"),
        ({"image": None, "images": ["x.jpg"]}, "1 <image> for 0 images ('images' is not read: wanted 'image'"),
    ],
)
def test_a_refusal_says_what_was_found_and_what_is_wanted(change: dict[str, Any], told: str) -> None:
    with pytest.raises(RejectedError) as refusal:
        check_record({**GOOD, **change}, Findings())
    assert told in refusal.value.detail


def test_a_record_of_another_form_is_told_by_its_keys() -> None:
    with pytest.raises(RejectedError, match="bad_turns: no 'conversations'; the keys are messages, images; wanted id"):
        check_record({"messages": [{"role": "user", "content": "q"}], "images": ["x.jpg"]}, Findings())
    with pytest.raises(RejectedError, match="bad_id: no 'id'; the keys are conversations"):
        check_record({"conversations": turns("q", "a")}, Findings())


@pytest.mark.parametrize(
    ("image", "paths"),
    [
        ("./coco/x.jpg", ("coco/x.jpg",)),
        ("coco/./x.jpg", ("coco/x.jpg",)),
        (["coco/x.jpg"], ("coco/x.jpg",)),
        (["./coco/x.jpg", "vg/y.jpg"], ("coco/x.jpg", "vg/y.jpg")),
    ],
)
def test_lists_of_paths_and_paths_from_here_are_read(image: Any, paths: tuple[str, ...]) -> None:
    conversations = turns("<image>\n" * len(paths) + "What is it?", "a cat")
    checked = check_record({**GOOD, "image": image, "conversations": conversations}, Findings())

    assert (checked.images, checked.source) == (paths, "coco")


def test_pictures_in_no_folder_are_one_source() -> None:
    assert check_record({**GOOD, "image": "x.jpg"}, Findings()).source == "images"


def test_a_plain_question_becomes_a_conversation() -> None:
    plain = {"image": "a/x.png", "question": "How many?", "answer": 3, "type": "counting"}
    checked = check_record(as_conversation(plain, 7), Findings())
    two = check_record(as_conversation({**plain, "id": "q", "image": ["x.png", "y.png"]}, 7), Findings())
    text = check_record(as_conversation({"id": "", "image": "", "question": "1 + 1?", "answer": "2"}, 8), Findings())

    assert (checked.id, checked.images, checked.source) == ("7", ("a/x.png",), "counting")
    assert [turn["value"] for turn in checked.turns] == ["<image>\nHow many?", "3"]
    assert (two.id, two.images, two.turns[0]["value"]) == ("q", ("x.png", "y.png"), "<image>\n<image>\nHow many?")
    assert (text.id, text.images, text.source) == ("8", (), "text")
    assert as_conversation(GOOD, 9) is GOOD
    with pytest.raises(RejectedError, match="bad_turns: the value of turn 2 is null"):
        check_record(as_conversation({**plain, "answer": None}, 0), Findings())


def test_record_must_be_an_object() -> None:
    with pytest.raises(RejectedError, match="not_an_object"):
        check_record(["no"], Findings())


def test_turns_at_the_edges_are_dropped_as_llava_does() -> None:
    findings = Findings()
    checked = check_record({**GOOD, "conversations": [REPLY, ASK, REPLY, ASK]}, findings)

    assert (list(checked.turns), findings.repaired) == ([ASK, REPLY], ["leading_answer", "trailing_question"])


@pytest.mark.parametrize("kind", ["leading_answer", "trailing_question"])
def test_what_is_repaired_by_default_can_be_quarantined(kind: str) -> None:
    conversations = [REPLY, ASK, REPLY] if kind == "leading_answer" else [ASK, REPLY, ASK]

    with pytest.raises(RejectedError, match=kind):
        check_record({**GOOD, "conversations": conversations}, Findings(Policy.parse([f"{kind}=quarantine"])))


def test_text_that_is_no_json_is_refused() -> None:
    for raw in (b'{"id": 1', b"\xff", b"[" * 100_000):
        with pytest.raises(RejectedError, match="not_json"):
            parse_record(raw)


def test_duplicates_are_equal_in_id_and_content() -> None:
    other_talk = {**GOOD, "conversations": turns("<image> other?", "b")}
    records = [GOOD, other_talk, "junk", dict(GOOD), {**GOOD, "id": "2"}, GOOD, "junk", {**GOOD, "extra": 1}]
    plain = {"image": "x.jpg", "question": "q", "answer": "a"}
    records += [{"messages": []}, {"messages": []}, plain, {**plain, "question": "other"}, plain]
    with RecordSpool([json.dumps(record).encode() for record in records] + [b"{", b"{"]) as spool:
        assert spool.duplicates().nonzero()[0].tolist() == [3, 5, 7, 12]
        assert json.loads(spool[4]) == records[4]
        assert len(spool) == 15


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("image_cmky=keep", "no kind 'image_cmky' .did you mean 'image_cmyk'"),
        ("image_cmyk=delete", "allowed for image_cmyk are repair, quarantine, keep"),
        ("image_missing=keep", "allowed for image_missing are quarantine$"),
        ("image_cmyk", "allowed for image_cmyk are"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(setting: str, message: str) -> None:
    with pytest.raises(DpnError, match=message):
        Policy.parse([setting])


def test_the_last_setting_of_a_kind_holds() -> None:
    policy = Policy.parse(["image_cmyk=keep", "image_small=keep", "image_cmyk=repair"])

    assert policy.overrides == (("image_small", "keep"),)
    assert (policy.action("image_cmyk"), policy.action("image_small")) == ("repair", "keep")
    assert all(kind.default in kind.allowed for kind in KINDS.values())
