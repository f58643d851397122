"""A base that does not know the answers is refused, in a line with the way out; `tiny` learns the data set's words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_model.special_texts import SPECIAL_TOKENS
from dpn_platform.config.errors import DpnError
from dpn_platform.config.load import fingerprint, parse_config
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.data.ingest.assembly import Origin, assemble
from dpn_platform.data.ingest.shards import BuildOptions, Slice, SourceRow, build_shard
from dpn_platform.data.published.manifest import Annotations, Manifest, publish_manifest
from dpn_platform.training.base import build_model
from dpn_platform.training.tiny_words import TINY_WORDS
from dpn_platform.training.words import check_words, training_words

Publish = Callable[..., Manifest]


@pytest.fixture
def published(tmp_path: Path) -> Publish:
    def publish(*turns: tuple[str, str]) -> Manifest:
        records = [{"question": question, "answer": answer} for question, answer in turns]
        rows = tuple(SourceRow(place, json.dumps(record).encode()) for place, record in enumerate(records))
        part = Slice(f"{tmp_path}/set", "train", 0, 0, rows, BuildOptions(()))
        files = {"train": (Annotations(uri="x.json", rows=len(rows)),)}
        manifest = assemble([build_shard(part)], part.target_uri, Origin("x", "x", None, files, None), part.options)
        return publish_manifest(part.target_uri, manifest)

    return publish


def config(manifest: Manifest, base: str = "tiny", **data: Any) -> ExperimentConfig:
    return parse_config({"name": "t", "model": {"base": base}, "data": {"uri": manifest.root, **data}}, "test")


def folder(tmp_path: Path, *words: str) -> str:
    build_word_tokenizer(words).save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_answers_that_the_base_does_not_know_are_refused(published: Publish, tmp_path: Path) -> None:
    manifest = published(("which colour ?", "red"), ("which colour ?", "teal"))
    base = folder(tmp_path, "which", "red")
    with pytest.raises(DpnError) as refusal:
        check_words(config(manifest, base), manifest)
    line = str(refusal.value)

    assert "66.7% of 6 tokens of the questions are unknown, and 50.0% of 2 answers hold an unknown one" in line
    assert "in answers 'teal'" in line
    assert "model.base=tiny" in line
    assert "data.allow_unknown_answers=true" in line
    assert "\n" not in line
    allowed = config(manifest, f"file://{base}", allow_unknown_answers=True)
    assert "in answers 'teal'" in (check_words(allowed, manifest) or "")
    assert fingerprint(allowed) == fingerprint(config(manifest, f"file://{base}"))


def test_unknown_words_of_questions_are_told(published: Publish, tmp_path: Path) -> None:
    manifest = published(("which hue ?", "red"))

    assert "in questions 'hue'" in (
        check_words(config(manifest, folder(tmp_path, "which", "?", "red")), manifest) or ""
    )
    assert check_words(config(manifest, folder(tmp_path, "which", "?", "red", "hue")), manifest) is None
    assert check_words(config(manifest), manifest) is None
    assert check_words(config(manifest, str(tmp_path / "no-tokenizer")), manifest) is None


def test_tiny_knows_every_word_of_its_data_set(published: Publish) -> None:
    manifest = published(("Is it teal?", "No"), ("Which hue is it?", "dark teal"))
    experiment = config(manifest)
    words = training_words(experiment)
    model, processor = build_model(experiment, words)

    assert words == ["Is", "No", "Which", "dark", "hue", "is", "it", "it?", "teal", "teal?"]
    assert len(processor.tokenizer) == model.lm_head.out_features == len(words) + len(SPECIAL_TOKENS) + 2
    ids = processor.encode_training([("Which hue is it?", "dark teal")], [], router=False).input_ids.tolist()
    assert processor.tokenizer.unk_token_id not in ids


def test_a_set_within_the_words_of_tiny_gets_them_all(published: Publish) -> None:
    manifest = published(("is there anything ?", "yes"))

    assert training_words(config(manifest)) == TINY_WORDS
    assert training_words(config(manifest, "dpn_model/assets/tiny-llava")) == TINY_WORDS
