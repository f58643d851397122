"""The base64 of a table's pictures in the forms that programs write."""

import base64

import pytest

from dpn_platform.benchmarks.files.base64_pictures import decoded
from dpn_platform.benchmarks.files.question_sources import Wanted, find_sources
from dpn_platform.benchmarks.files.questions import read_questions
from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.config.errors import DpnError

PICTURE = bytes(range(256)) * 2  # its base64 holds + and /, and ends in =
PLAIN = base64.b64encode(PICTURE).decode()
FORMS = {
    "plain": PLAIN,
    "lines": base64.encodebytes(PICTURE).decode(),
    "blanks": f" {PLAIN[:40]} {PLAIN[40:]} \t",
    "data URI": f"data:image/jpeg;base64,{PLAIN}",
    "data URI of lines": f"DATA:image/png;charset=x;BASE64,{base64.encodebytes(PICTURE).decode()}",
    "unpadded": PLAIN.rstrip("="),
    "URL-safe": base64.urlsafe_b64encode(PICTURE).decode().rstrip("="),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_picture(form):
    assert PLAIN.endswith("=")
    assert set(PLAIN) >= set("+/")
    assert decoded(FORMS[form]) == PICTURE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data:image/svg+xml,<svg/>", "a data URI without base64"),
        ("images/1.jpg", "is not base64 .*'images/1.jpg'"),
        ("['" + PLAIN + "']", "is not base64"),
        (PLAIN[:5].rstrip("="), "is not base64"),
    ],
)
def test_other_texts_are_named(text, words):
    with pytest.raises(ValueError, match=words):
        decoded(text)


@pytest.mark.parametrize("form", FORMS)
def test_mmbenchs_table_holds_any_form(files, tmp_path, form):
    cell = FORMS[form].replace('"', '""')
    table = f'index\tquestion\tA\tB\tanswer\tcategory\timage\n1\tQ\ta\tb\tA\tc\t"{cell}"\n1000001\tQ\tb\ta\tB\tc\t 1 \n'
    files("mmbench/mmbench_dev_20230712.tsv", table)
    benchmark = find_benchmark("mmbench")
    sources = find_sources(benchmark, Wanted(data=str(tmp_path)))
    questions = read_questions(benchmark, sources, "reference")
    # The second row names the row that has its picture.
    assert [question.pictures[0].data for question in questions] == [PICTURE, PICTURE]


def test_a_picture_in_no_form_names_its_row(files, tmp_path):
    table = f"index\tquestion\tA\tB\tanswer\tcategory\timage\n77\tQ\ta\tb\tA\tc\t{'(not) ' * 20}\n"
    files("mmbench/mmbench_dev_20230712.tsv", table)
    benchmark = find_benchmark("mmbench")
    sources = find_sources(benchmark, Wanted(data=str(tmp_path)))
    with pytest.raises(DpnError, match=r"mmbench_dev_20230712\.tsv: the picture of 77 is not base64"):
        read_questions(benchmark, sources, "reference")
