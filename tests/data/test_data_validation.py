"""Each kind of bad record gets its own reason; odd but sound ones pass, or are repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.data.policy import KINDS, Findings, Policy, RejectedError
from dpn_platform.data.spool import RecordSpool
from dpn_platform.data.validation import check_record, parse_record

ASK = {"from": "human", "value": "<image>\nWhat is it?"}
REPLY = {"from": "gpt", "value": "a cat"}
GOOD = {"id": "1", "image": "coco/x.jpg", "conversations": [ASK, REPLY]}


def turns(*values: str) -> list[dict[str, str]]:
    """A conversation whose speakers alternate."""
    return [{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)]


def test_good_record_is_described() -> None:
    checked = check_record({**GOOD, "family": "counting", "difficulty": 3}, Findings())

    assert (checked.id, checked.image, checked.source, checked.difficulty) == ("1", "coco/x.jpg", "counting", "3")
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
        ({"image": ["a.jpg", "b.jpg"]}, "bad_image_path"),
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
    with RecordSpool([json.dumps(record).encode() for record in records] + [b"{", b"{"]) as spool:
        assert spool.duplicates().nonzero()[0].tolist() == [3, 5, 7]
        assert json.loads(spool[4]) == records[4]
        assert len(spool) == 10


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
