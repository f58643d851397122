"""Every benchmark in every layout: what is asked, which picture goes with it, and that right answers score in full."""

import io

import pytest
from PIL import Image

from dpn_platform.benchmarks.registry import MODULES, find_benchmark
from dpn_platform.evaluation.recorded_runs import read_recorded
from dpn_platform.evaluation.runner.outcome import check_annotations, write_outcome
from dpn_platform.evaluation.runner.pictures import fetch
from tests.scored_benchmarks import small_llava_sets, small_parquet_sets

CASES = [(name, "llava") for name in small_llava_sets.WRITERS] + [
    (name, "parquet") for name in small_parquet_sets.WRITERS
]
#: no gold in these layouts: the suffix of the file that the server or judge is sent
PRIVATE = {("vqav2", "llava"): ".json", ("vizwiz", "llava"): ".json", ("mm-vet", "llava"): ".json"}
PRIVATE |= {("mm-vet", "parquet"): ".json"}


def test_every_benchmark_has_a_layout_under_test():
    own = {name for name in MODULES if not find_benchmark(name).asks_data_set}
    assert {name for name, _ in CASES} == own, "test_heldout.py and test_object_data_set.py have the others"


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_right_answers_score_in_full(small_set, lines_of, tmp_path, name, layout):
    run, questions, right = small_set(name, layout)
    assert run.sources.layout.name == layout, "told from what is there"
    assert [question.place for question in questions] == list(range(len(right)))
    check_annotations(run, questions)
    outcome = write_outcome(run, lines_of(questions, right), questions)
    if (name, layout) in PRIVATE:
        assert not outcome["reports"]
        assert outcome["caution"]
        assert outcome["submission_uri"].endswith(PRIVATE[name, layout])
        return
    # MMMU's last question is not asked: a letter drawn from its id stands for an answer.
    drawn = name == "mmmu" and questions[-1].fixed_answer != "B"
    full = {"mme": 400.0 if layout == "llava" else 200.0, "mmmu": 200.0 / 3 if drawn else 100.0}
    assert outcome["reports"][""]["headline"]["value"] == pytest.approx(full.get(name, 100.0))
    rows = read_recorded(run.output_uri).rows
    assert [row["answer"] for row in rows if row["has_image"]] == [
        text for question, text in zip(questions, right, strict=True) if question.pictures
    ]
    assert {row["score"] for row in rows if row["has_image"]} <= {1.0, None}


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_pictures_are_read_where_the_layout_keeps_them(small_set, name, layout):
    _, questions, _ = small_set(name, layout)
    pictures = [picture for question in questions for picture in question.pictures]
    assert pictures
    for data in fetch(list(dict.fromkeys(pictures))).values():
        with Image.open(io.BytesIO(data)) as image:
            assert image.height == 16
