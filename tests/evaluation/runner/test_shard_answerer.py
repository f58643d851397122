"""The worker without Ray around it: shards in, answer files out, the same for every batch size."""

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from dpn_platform.evaluation.answering.loading import find_checkpoint
from dpn_platform.evaluation.runner.actor import AnswererSettings, ShardAnswerer, with_pictures
from dpn_platform.evaluation.runner.lines import ShardFiles
from dpn_platform.evaluation.runner.shards import cut


def call(checkpoint, output, shards, batch_size):
    answerer = ShardAnswerer(AnswererSettings(find_checkpoint(checkpoint), str(output), batch_size))
    for shard in shards:
        (table,) = with_pictures(pa.table({"shard": [pickle.dumps(shard)]}))
        (done,) = answerer(table).to_pylist()
        assert (done["shard"], done["questions"]) == (shard.name, len(shard.questions))
        yield done["refusal"]


def answer(checkpoint, output, shards, batch_size):
    assert set(call(checkpoint, output, shards, batch_size)) == {None}
    return ShardFiles(str(output)).read(shards)


@pytest.mark.parametrize(("name", "variant"), [("mme", "harness"), ("mmmu", "reference"), ("mmmu", "harness")])
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
    if (name, variant) == ("mmmu", "harness"):
        assert max(len(question.pictures) for question in questions) > 1
    asked = sum(question.fixed_answer is None for question in questions)
    assert sum(one["timing"]["num_samples"] for one in times) == asked - 1, "the first batch of a worker is not timed"
    text = Path(tmp_path / "one/shards" / f"{shards[0].name}.jsonl").read_text()
    assert [json.loads(row)["question_id"] for row in text.splitlines()] == [one.id for one in shards[0].questions]


def test_what_is_refused_is_said_in_one_line_and_leaves_no_file(save_checkpoint, tmp_path, small_set):
    _, questions, _ = small_set("gqa", "llava")
    checkpoint, broken = save_checkpoint(name="dense"), tmp_path / "broken"
    broken.mkdir()
    for file in Path(checkpoint).iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[: 3000 if file.suffix == ".safetensors" else None])
    picture = tmp_path / "set/gqa/data/images/n0.jpg"
    picture.write_bytes(picture.read_bytes()[:40])
    first = list(call(str(broken), tmp_path / "out", cut(questions, {}, 2), 4))
    assert all("broken: cannot be loaded" in refusal for refusal in first)
    (cut_short, fine) = call(checkpoint, tmp_path / "out", cut(questions, {}, 2), 4)
    assert "n0.jpg: not a picture" in cut_short
    assert fine is None
    picture.unlink()
    (gone,) = call(checkpoint, tmp_path / "out", cut(questions[:1], {}), 4)
    assert "n0.jpg" in gone
    assert "\n" not in cut_short + gone
    assert len(ShardFiles(str(tmp_path / "out")).done()) == 1
