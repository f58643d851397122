"""What is refused of a benchmark's pictures, and how their names are understood."""

import io
import json
import struct
import zlib

import pytest
from PIL import Image

from dpn_platform.benchmarks.files.question_sources import Wanted, find_sources
from dpn_platform.benchmarks.files.questions import PictureRef, read_questions
from dpn_platform.benchmarks.registry import find_benchmark
from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.runner.pictures import decode


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG, which says how large it is; no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((13, body), (0, b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", length) + chunk + struct.pack(">I", zlib.crc32(chunk)) for length, chunk in chunks
    )


def test_a_picture_that_would_fill_the_memory_is_named_with_its_pixels() -> None:
    with pytest.raises(DpnError, match=r"^file:///p/n1.png: Image size \(400000000 pixels\) exceeds limit of \d+"):
        decode(png_header(20_000, 20_000), PictureRef("file:///p/n1.png"))


@pytest.fixture
def gqa(tmp_path):
    """A GQA set in LLaVA's layout; returns a function that writes its question file and reads the questions."""
    pictures = tmp_path / "gqa" / "data" / "images"
    pictures.mkdir(parents=True)
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    (pictures / "n0.jpg").write_bytes(out.getvalue())
    (tmp_path / "gqa" / "data" / "testdev_balanced_questions.json").write_text('{"20": {"answer": "yes"}}')

    def read(image: str, text: str):
        line = json.dumps({"question_id": "20", "image": image, "text": text})
        (tmp_path / "gqa" / "llava_gqa_testdev_balanced.jsonl").write_text(line + "\n")
        benchmark = find_benchmark("gqa")
        [question] = read_questions(benchmark, find_sources(benchmark, Wanted(data=str(tmp_path))), "reference")
        return question

    return read


@pytest.mark.parametrize("text", ["how many ?", "<image>\nhow many ?", "how many ?\n<image>", " <image> how many ?"])
def test_a_tag_in_the_question_is_the_picture_that_is_shown_anyway(gqa, text: str) -> None:
    assert gqa("n0.jpg", text).text == "how many ?"


@pytest.mark.parametrize("name", ["n0.jpg", "./n0.jpg", ".\\n0.jpg", "a/../n0.jpg"])
def test_names_are_understood_as_paths(gqa, name: str) -> None:
    [picture] = gqa(name, "how many ?").pictures
    assert picture.uri.endswith("/images/n0.jpg")
