"""The converter of easy-VQA, on a folder of three made-up questions in its form, and what it says of other folders."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks import easy_vqa

QUESTIONS = [
    ["what is the blue shape?", "rectangle", 0],
    ["is there not a red shape?", "yes", 1],
    ["what color is the rectangle?", "blue", 0],
    ["does the image contain a circle?", "no", 0],
]


@pytest.fixture
def wheel(tmp_path):
    for split in easy_vqa.SPLITS:
        folder = tmp_path / "wheel/easy_vqa/data" / split
        folder.mkdir(parents=True)
        (folder / "questions.json").write_text(json.dumps(QUESTIONS))
    return tmp_path / "wheel"


def written(folder, split):
    return json.loads((folder / f"{split}.json").read_text())


def test_a_question_is_a_record_with_its_family(wheel, tmp_path, capsys):
    assert easy_vqa.main([str(wheel), str(tmp_path / "raw")]) == 0
    assert "4 train records, 4 test records" in capsys.readouterr().out
    records = written(tmp_path / "raw", "train")
    assert [record["family"] for record in records] == ["shape", "is-colour", "colour", "is-shape"]
    assert records[1] == {
        "id": "easy-vqa-train-00001",
        "image": "train/images/1.png",
        "conversations": [
            {"from": "human", "value": "<image>\nis there not a red shape?"},
            {"from": "gpt", "value": "yes"},
        ],
        "family": "is-colour",
    }


def test_whole_pictures_are_records_of_several_turns_in_the_training_split_alone(wheel, tmp_path):
    assert easy_vqa.main([str(wheel), str(tmp_path / "raw"), "--whole-pictures"]) == 0
    first, second = written(tmp_path / "raw", "train")
    assert [turn["value"] for turn in first["conversations"]] == [
        "<image>\nwhat is the blue shape?",
        "rectangle",
        "what color is the rectangle?",
        "blue",
        "does the image contain a circle?",
        "no",
    ]
    assert len(second["conversations"]) == 2
    assert len(written(tmp_path / "raw", "test")) == 4


def test_another_folder_and_one_that_is_written_already_are_told_in_a_line(wheel, tmp_path, capsys):
    assert easy_vqa.main([str(tmp_path), str(tmp_path / "raw")]) == 2
    assert "no easy_vqa/data/train/questions.json" in capsys.readouterr().err
    assert easy_vqa.main([str(wheel), str(tmp_path / "raw")]) == 0
    before = (tmp_path / "raw/train.json").read_bytes()
    assert easy_vqa.main([str(wheel), str(tmp_path / "raw"), "--whole-pictures"]) == 2
    assert "train.json is there already" in capsys.readouterr().err
    assert (tmp_path / "raw/train.json").read_bytes() == before


@pytest.mark.parametrize("content", ["[", "[3]", '[["what?", "no"]]', "7"])
def test_a_file_of_another_form_is_named(wheel, tmp_path, capsys, content):
    (wheel / "easy_vqa/data/test/questions.json").write_text(content)
    assert easy_vqa.main([str(wheel), str(tmp_path / "raw")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "test/questions.json: wanted a list of [question, answer, picture number]" in error
    assert not (tmp_path / "raw").exists()
