"""What a tokenizer does not know is counted, shown and recorded; what knows every word has nothing to count."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from dpn_model.processing.tokenizer import build_word_tokenizer
from dpn_platform.cli.data_inspection import show_manifest
from dpn_platform.config.errors import DpnError
from dpn_platform.data.ingest.assembly import Origin, assemble
from dpn_platform.data.ingest.shards import Slice, build_shard
from dpn_platform.data.ingest.tokenizer_files import tokenizer_json
from dpn_platform.data.ingest.unknown_words import count_unknown, in_words, unknown_line, words_of_split
from dpn_platform.data.published.manifest import Annotations, Manifest
from dpn_platform.storage import write_bytes


def talk(*values: str) -> str:
    return json.dumps([{"from": ("human", "gpt")[number % 2], "value": value} for number, value in enumerate(values)])


def tokenizer_of(folder: Path, *words: str) -> str:
    build_word_tokenizer(words).save_pretrained(folder)
    return f"{folder}/tokenizer.json"


def test_unknown_tokens_of_questions_and_answers_are_counted(tmp_path: Path) -> None:
    uri = tokenizer_of(tmp_path, "what", "is", "it", "red")
    rows = [talk("<image>\nwhat is it ?", "red"), talk("what shape is it ?", "a disc", "is it ?", "red")]
    found = count_unknown([*rows, rows[0]], uri)

    assert found is not None
    assert found.counts() == {
        "question_tokens": 4 + 5 + 3 + 4,
        "unknown_question_tokens": 1 + 2 + 1 + 1,
        "answers": 4,
        "unknown_answers": 1,
    }
    assert (found.in_questions, found.in_answers) == ({"?": 4, "shape": 1}, {"a": 1, "disc": 1})
    assert found.told() == (
        "31.2% of 16 tokens of the questions are unknown, and 25.0% of 4 answers hold an unknown one "
        "(3 rows looked at): in questions '?', 'shape'; in answers 'a', 'disc'"
    )


def test_a_tokenizer_of_bytes_knows_every_word(tmp_path: Path) -> None:
    of_bytes = Tokenizer(BPE(dict.fromkeys(ByteLevel.alphabet(), 0), []))
    falls_back = Tokenizer(BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>", byte_fallback=True))
    for number, tokenizer in enumerate((of_bytes, falls_back)):
        tokenizer.save(f"{tmp_path}/{number}.json")
        assert count_unknown([talk("what ?", "teal")], f"{tmp_path}/{number}.json") is None


def test_ingest_records_and_prints_them(part: Slice, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer_of(tmp_path / "out/tokenizers", *"question 0? 2? no".split())
    options = replace(part.options, tokenizer="tokenizers/tokenizer.json")
    results = [build_shard(replace(part, options=options))]
    files = {"train": (Annotations(uri="x.json", rows=5),)}
    manifest = assemble(results, part.target_uri, Origin("x", "x", None, files, "words"), options)

    split = manifest.split("train")
    assert split.unknown == {"answers": 3, "question_tokens": 6, "unknown_answers": 3, "unknown_question_tokens": 1}
    show_manifest(manifest.at(part.target_uri), as_json=False)
    assert f"train: {in_words(split.unknown)}" in " ".join(capsys.readouterr().err.split())
    assert "16.7% of 6 tokens" in in_words(split.unknown)


def test_without_a_tokenizer_nothing_is_recorded(part: Slice, publish: Callable[..., Manifest]) -> None:
    assert build_shard(part)["unknown"] == {}
    assert publish(part).split("train").unknown == {}


def test_a_published_split_is_told_by_its_words(part: Slice, publish: Callable[..., Manifest], tmp_path: Path) -> None:
    manifest = publish(part)

    assert words_of_split(manifest, "train") == ["0?", "2?", "4?", "question", "yes"]
    whole = tokenizer_of(tmp_path / "a", *words_of_split(manifest, "train"))
    assert unknown_line(manifest, "train", whole) is None
    line = unknown_line(manifest, "train", tokenizer_of(tmp_path / "b", "question", "0?", "2?", "4?"))
    assert line is not None
    assert "100.0% of 3 answers hold an unknown one (3 rows looked at): in answers 'yes'" in line


def test_a_folder_with_only_a_sentencepiece_model_says_what_to_do(tmp_path: Path) -> None:
    write_bytes(f"{tmp_path}/tokenizer.model", b"no model")
    with pytest.raises(
        DpnError, match=r"it has tokenizer.model and no tokenizer.json, .* AutoTokenizer .*save_pretrained"
    ):
        tokenizer_json(str(tmp_path))
    with pytest.raises(DpnError, match=r"tokenizer.json: nothing is there"):
        tokenizer_json(str(tmp_path / "none"))
