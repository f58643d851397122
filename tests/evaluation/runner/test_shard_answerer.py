"""The worker without Ray around it: shards in, answer files out, the same for every batch size."""

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.answering.loading import find_checkpoint
from dpn_platform.evaluation.runner.actor import AnswererSettings, ShardAnswerer, with_pictures
from dpn_platform.evaluation.runner.lines import ShardFiles
from dpn_platform.evaluation.runner.shards import cut


def answer(checkpoint, output, shards, batch_size):
    answerer = ShardAnswerer(AnswererSettings(find_checkpoint(checkpoint), str(output), batch_size))
    for shard in shards:
        (table,) = with_pictures(pa.table({"shard": [pickle.dumps(shard)]}))
        assert answerer(table).to_pylist() == [{"shard": shard.name, "questions": len(shard.questions)}]
    return ShardFiles(str(output)).read(shards)


@pytest.mark.parametrize(("name", "variant"), [("mme", "harness"), ("mmmu", "reference")])
def test_lines_are_llava_s_and_the_same_for_every_batch_size(save_checkpoint, small_set, tmp_path, name, variant):
    checkpoint = save_checkpoint(name="dpn")
    _, questions, _ = small_set(name, "parquet", variant)
    shards = cut(questions, {}, 2)
    lines, times = answer(checkpoint, tmp_path / "one", shards, 1)
    assert answer(checkpoint, tmp_path / "all", shards, 8)[0] == lines
    assert ShardFiles(str(tmp_path / "one")).done() == {shard.name for shard in shards}
    assert [line["question_id"] for line in lines] == [question.id for question in questions]
    for line, question in zip(lines, questions, strict=True):
        assert list(line)[:5] == ["question_id", "prompt", "text", "answer_id", "model_id"]
        assert line["prompt"] == question.stored_prompt
        assert ("new_tokens" in line["metadata"]) == (question.fixed_answer is None)
        assert bool(line["metadata"]["image_sha"]) == bool(question.pictures)
    asked = sum(question.fixed_answer is None for question in questions)
    assert sum(one["timing"]["num_samples"] for one in times) == asked - 1, "the first batch of a worker is not timed"
    text = Path(tmp_path / "one/shards" / f"{shards[0].name}.jsonl").read_text()
    assert [json.loads(row)["question_id"] for row in text.splitlines()] == [one.id for one in shards[0].questions]


def test_a_checkpoint_that_cannot_be_loaded_is_said_when_asked(save_checkpoint, tmp_path, small_set):
    _, questions, _ = small_set("gqa", "llava")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in Path(save_checkpoint(name="dense")).iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[: 3000 if file.suffix == ".safetensors" else None])
    with pytest.raises(DpnError, match="broken: cannot be loaded"):
        answer(str(broken), tmp_path / "out", cut(questions, {}), 4)
    assert ShardFiles(str(tmp_path / "out")).done() == set()
