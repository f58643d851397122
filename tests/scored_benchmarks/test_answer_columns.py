"""Which column of an answer file is the answer: known forms are read, what is in doubt is refused by name."""

import pytest

from dpn_platform.benchmarks.contract import Inputs
from dpn_platform.benchmarks.files.answers import read_answers
from dpn_platform.benchmarks.scoring import submission_of
from dpn_platform.config.errors import DpnError

SHORT = "\nAnswer the question using a single word or phrase."
LLAVA = {"question_id": 1, "prompt": "Is it?", "text": "yes", "answer_id": "x", "model_id": "m", "metadata": {}}
MMBENCH = {"index": "1", "question": "Q", "A": "a", "B": "b", "answer": "B", "category": "c"}
POPE_QUESTION = {"question_id": 1, "image": "C_1.jpg", "text": f"Is there a cat?{SHORT}", "category": "random"}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"question_id": 1, "text": "yes"}, "yes"),
        (LLAVA, "yes"),
        ({**LLAVA, "round_id": 0, "options": ["a"], "option_char": ["A"]}, "yes"),
        # the servers' and the official programs'
        ({"question_id": 1, "answer": "yes"}, "yes"),
        ({"image": "V_1.jpg", "answer": "yes"}, "yes"),
        ({"questionId": "1", "prediction": "yes"}, "yes"),
        ({"question_id": 1, "image_id": 4, "answer": "yes", "pred_source": ["VOCAB"]}, "yes"),
        # VLMEvalKit's and MMMU's keep the gold beside the prediction
        ({**MMBENCH, "prediction": "A"}, "A"),
        ({"id": "validation_Art_1", "question_type": "open", "answer": "x", "response": "y", "index2ans": {}}, "y"),
        # what `dpn evaluate` leaves
        ({"id": "1", "family": "f", "question": "Is it?", "gold": "no", "answer": "yes", "route": "1,2"}, "yes"),
        ({"question_id": 1, "pred": "yes", "label": "no"}, "yes"),
        ({"question_id": 1, "image": "a.jpg", "question": "Is it?", "text": "yes"}, "yes"),
    ],
)
def test_known_forms_are_read(files, record, text):
    assert [answer.text for answer in read_answers(files("a.json", [record]))] == [text]


def test_lmms_eval_logs_name_the_question_in_their_document(files):
    log = {"doc_id": 0, "doc": {"question_id": "n7", "answer": "no"}, "target": "no", "input": "Is it?"}
    read = read_answers(files("log.jsonl", [{**log, "resps": [["Yes."]], "filtered_resps": ["yes"]}]))
    assert [(answer.key, answer.text, answer.prompt) for answer in read] == [("n7", "yes", "Is it?")]
    assert read_answers(files("raw.jsonl", [{**log, "resps": [["Yes."]]}]))[0].text == "Yes."
    with pytest.raises(DpnError, match="record 1: 'resps' is of type list"):
        read_answers(files("two.jsonl", [{**log, "resps": [["a", "b"]]}]))
    bare = {key: value for key, value in log.items() if key != "doc"}
    with pytest.raises(DpnError, match=r"record 1: no id \(question_id\)"):
        read_answers(files("bare.jsonl", [{**bare, "resps": [["yes"]]}]))


@pytest.mark.parametrize(
    ("record", "one", "other"),
    [
        ({"question_id": 1, "answer": "no", "pred": "yes"}, "answer", "pred"),
        ({"question_id": 1, "answer": "no", "pred": 1}, "answer", "pred"),
        ({"question_id": 1, "Answer": "no", "Pred": "yes"}, "Answer", "Pred"),
        ({"question_id": 1, "answer": "no", "model_answer": "yes"}, "answer", "model_answer"),
        ({"question_id": 1, "answer": "no", "response": "yes"}, "answer", "response"),
        ({"question_id": 1, "answer": "no", "llava-v1.5-7b": "yes"}, "answer", "llava-v1.5-7b"),
        ({"question_id": 1, "text": "no", "generated_text": "yes"}, "text", "generated_text"),
        ({"question_id": 1, "text": "no", "second": "yes"}, "text", "second"),
        ({**POPE_QUESTION, "answer": "yes"}, "text", "answer"),
        ({**POPE_QUESTION, "response": "yes"}, "text", "response"),
        ({**POPE_QUESTION, "prediction": "yes"}, "text", "prediction"),
        ({**LLAVA, "prediction": "no"}, "text", "prediction"),
        ({**MMBENCH, "prediction": "A", "response": "B"}, "prediction", "response"),
    ],
)
def test_two_columns_that_could_be_the_answer_are_both_named(files, record, one, other):
    with pytest.raises(DpnError, match=f"a.jsonl: '{one}' and '{other}' could both be the model's answer"):
        read_answers(files("a.jsonl", [record, record]))


def test_records_of_two_forms_are_one_doubt(files):
    path = files("a.jsonl", [{"question_id": 1, "text": "yes"}, {"question_id": 2, "answer": "no"}])
    with pytest.raises(DpnError, match="'text' and 'answer' could both"):
        read_answers(path)


@pytest.mark.parametrize(
    "record",
    [
        POPE_QUESTION,
        {"question_id": 1, "text": f"What is it?{SHORT}"},
        {"question_id": 1, "text": "What is it?"},
        {"question_id": "0", "image": "v.png", "text": "Describe the picture.", "category": "default"},
        {"question_id": 1, "text": "Q?\nA. a\nAnswer with the option's letter from the given choices directly."},
    ],
)
def test_question_files_hold_no_answers(files, record):
    with pytest.raises(DpnError, match=r"q\.jsonl: looks like a question file.*it holds no answers"):
        read_answers(files("q.jsonl", [record, record]))


def test_questions_by_id_are_no_answers(files):
    with pytest.raises(DpnError, match="holds questions by id"):
        read_answers(files("q.json", {"v1_0": "What is it?", "v1_1": f"Name it.{SHORT}"}))


GOLD = {
    "SEED-Bench": {"question_id": 1, "data_type": "image", "answer": "C", "question": "Q", "choice_a": "a"},
    "ScienceQA": {"question": "Q", "choices": ["a"], "answer": 0},
    "MMBench": MMBENCH,
    "MMMU": {"id": "validation_Art_1", "question_type": "open", "answer": "x"},
    "MM-Vet": {"question_id": "v1_0", "question": "Q", "answer": "a", "capability": "ocr"},
    "POPE": {"id": "1", "question": "Q", "answer": "yes", "category": "random"},
    "GQA": {"id": "1", "question": "Q", "answer": "yes", "imageId": "n"},
    "MME": {"question_id": "OCR/1.png", "question": "Q", "answer": "Yes", "category": "OCR"},
    "a VQA set": {"question_id": 1, "question": "Q", "answers": ["a"] * 10},
}


@pytest.mark.parametrize("title", GOLD)
def test_annotations_in_any_form_hold_no_answers(files, title):
    record = GOLD[title]
    by_id = {"1": {column: value for column, value in record.items() if column != "id"}}
    forms = {"a.jsonl": [record], "b.json": [record], "c.parquet": [record], "d.json": {"questions": [record]}}
    if title != "POPE":  # by id its rows are no form of POPE's
        forms["e.json"] = by_id
    table = "\t".join(record) + "\n" + "\t".join(map(str, record.values())) + "\n"
    for name, content in {**forms, "f.tsv": table}.items():
        with pytest.raises(DpnError, match=f"{name}: looks like {title}'s own .* holds no answers"):
            read_answers(files(name, content))


def test_labels_and_lists_of_humans_are_annotations(files):
    labels = [{"question_id": 1, "image": "C.jpg", "text": "Is there a cat?", "label": "yes"}]
    with pytest.raises(DpnError, match="looks like POPE's own"):
        read_answers(files("coco_pope_random.json", labels))
    with pytest.raises(DpnError, match="looks like a VQA set's own"):
        read_answers(files("v.tsv", "index\tquestion\tanswer\n1\twhat?\t['a', 'b']\n"))


def test_no_submission_is_made_of_questions(files):
    asked = [{"question_id": n, "image": f"V_{n}.jpg", "text": f"what {n}?{SHORT}"} for n in range(2)]
    questions = files("llava_test.jsonl", asked)
    for name, more in {"copy.jsonl": {}, "both.jsonl": {"answer": "cup"}}.items():
        with pytest.raises(DpnError, match="no answers|could both be"):
            submission_of("vizwiz", Inputs(files(name, [{**row, **more} for row in asked]), "", questions), "o.json")


@pytest.mark.parametrize("name", ["gold.json", "gold.parquet"])
def test_one_file_is_not_predictions_and_annotations(files, scored, name):
    rows = [{"id": str(n), "question": f"q{n}", "answer": "yes", "imageId": "n"} for n in range(3)]
    gold = files(name, rows)
    for predictions in (gold, files(f"copy_of_{name}", rows)):
        with pytest.raises(DpnError, match="is the same file as the annotations"):
            scored("gqa", predictions, gold)
    # The same records under fewer columns, which alone could be a model's.
    trimmed = files("trimmed.csv", "id,question,answer\n" + "".join(f"{n},q{n},yes\n" for n in range(3)))
    with pytest.raises(DpnError, match=r"trimmed.csv: its 3 records are those of .*no answers of a model"):
        scored("gqa", trimmed, gold)
    answers = files("answers.csv", "id,question,answer\n0,q0,yes\n1,q1,yes\n2,q2,no\n")
    assert scored("gqa", answers, gold)[0]["headline"]["value"] == pytest.approx(200 / 3)


def test_questions_are_not_predictions(files, scored):
    gold = files("coco_pope_random.json", [{"question_id": 1, "image": "C.jpg", "text": "Is it?", "label": "yes"}])
    questions = files("q.jsonl", [{"question_id": 1, "image": "C.jpg", "text": "Is it?", "category": "random"}])
    with pytest.raises(DpnError, match="is the same file as the questions"):
        scored("pope", questions, gold, questions)
