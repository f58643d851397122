"""Tokens are counted as training encodes; what is in a set is summed from its shards; verify sees what stats would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dpn_model.processing import DpnProcessor
from dpn_model.processing.conversation import VICUNA_SYSTEM
from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.shards import Slice
from dpn_platform.data.ingest.tokens import ESTIMATE, estimated_tokens, token_counter
from dpn_platform.data.published.histograms import write_histograms
from dpn_platform.data.published.manifest import Manifest
from dpn_platform.data.published.stats import collect_stats
from dpn_platform.data.published.verify import verify
from dpn_platform.data.reading.collate import parse_turns

Publish = Callable[..., Manifest]
WORDS = [*VICUNA_SYSTEM.replace(".", " .").split(), "what", "is", "it", "?", "a", "cat", "yes"]


def turns(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)]


@pytest.mark.parametrize(
    "values",
    [
        ("what is it ?", "a cat"),
        ("<image>\nwhat ?", "yes"),
        ("is it <image> a cat ?", "yes", "what is it ?", "a cat </s> a"),
    ],
)
def test_a_tokenizer_counts_what_training_encodes(tmp_path: Path, values: tuple[str, ...]) -> None:
    tokenizer = build_word_tokenizer(WORDS)
    tokenizer.save_pretrained(tmp_path)
    processor = DpnProcessor(tokenizer, image_size=8, tokens_per_image=5, template="vicuna_v1")
    images = [Image.new("RGB", (8, 8))] * sum(value.count("<image>") for value in values)
    encoded = processor.encode_training(parse_turns(json.dumps(turns(*values))), images, router=False)
    supervised = int((encoded.labels != -100).sum())

    counted = token_counter(f"{tmp_path}/tokenizer.json")(turns(*values))

    assert counted == (len(encoded.input_ids) - supervised - 5 * len(images), supervised)


def test_tags_of_boxes_are_single_tokens_whether_or_not_the_tokenizer_has_them(tmp_path: Path) -> None:
    values = ("is it <obj1> ?", "yes <ground>a cat</ground><objects><obj1></objects>")
    tokenizer = build_word_tokenizer(WORDS)
    tokenizer.save_pretrained(tmp_path / "without")
    tokenizer.add_tokens(["<obj1>", "<objects>", "</objects>", "<ground>", "</ground>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "with")
    plain = turns("is it ?", "yes a cat")

    for folder in ("without", "with"):
        count = token_counter(f"{tmp_path}/{folder}/tokenizer.json")
        assert np.subtract(count(turns(*values)), count(plain)).tolist() == [1, 5]


def test_the_estimate_is_what_the_manifest_says() -> None:
    assert "ceil(characters / 4)" in ESTIMATE
    assert estimated_tokens(turns("<image>\n" + "q" * 9, "a" * 4, "q", "")) == (42 + 3 + 8 + 1, 1 + 1 + 0 + 1)


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")

    with pytest.raises(DpnError, match="not a tokenizer.json"):
        token_counter(f"{tmp_path}/tokenizer.json")
    with pytest.raises(DpnError, match="nothing is there"):
        token_counter(f"{tmp_path}/none/tokenizer.json")


def test_stats_sum_up_the_rows(part: Slice, publish: Publish) -> None:
    manifest = publish(part)
    stats = collect_stats(manifest)
    lines = {row["source"]: row for row in stats.to_json()["composition"]}

    assert (lines["img"]["rows"], lines["img"]["images"], lines["img"]["median_size"]) == (1, 1, "16x12")
    assert (lines["text"]["rows"], lines["text"]["images"], lines["text"]["text_only"]) == (2, 0, 2)
    assert lines["img"]["mean_cost"] == lines["img"]["mean_prompt_tokens"] + lines["img"]["mean_answer_tokens"] + 576
    assert stats.values("expected_cost").sum() == manifest.splits["train"].expected_cost
    assert stats.values("width").tolist() == [16]
    assert stats.to_json()["quantiles"]["num_turns"] == {"p50": 1, "p95": 1, "p100": 1}


def test_histograms_are_pictures(part: Slice, publish: Publish, tmp_path: Path) -> None:
    written = write_histograms(collect_stats(publish(part)), f"{tmp_path}/out")

    assert [uri.rpartition("/")[2] for uri in written] == ["lengths.png", "sizes.png"]
    for uri in written:
        pixels = np.asarray(Image.open(uri.removeprefix("file://")).convert("RGB"))
        assert (pixels == (0x44, 0x77, 0xAA)).all(axis=2).any()  # a bar


def test_stats_name_a_missing_shard(part: Slice, publish: Publish) -> None:
    manifest = publish(part)
    Path(manifest.shard_uri(manifest.splits["train"].shards[0]).removeprefix("file://")).unlink()

    with pytest.raises(DpnError, match="cannot read file://.*dpn data verify"):
        collect_stats(manifest)


def test_verify_decodes_every_image(part: Slice, publish: Publish) -> None:
    assert verify(publish(part), decode=True).images_decoded == 1
    assert verify(publish(part)).images_decoded == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repairs": {"image_cmyk": 1}}, "says {'image_cmyk': 1} repairs, the shards hold {}"),
        ({"expected_cost": 1}, "says 1 expected cost"),
    ],
)
def test_verify_compares_repairs_and_tokens(
    part: Slice, publish: Publish, change: dict[str, Any], message: str
) -> None:
    manifest = publish(part)
    wrong = manifest.model_copy(update={"splits": {"train": manifest.splits["train"].model_copy(update=change)}})

    assert message in verify(wrong.at(part.target_uri)).problems[0]
