"""How long `dpn score` takes on sets of the real size: VQAv2 val (214,354 questions), GQA, MMBench.

`make bench` prints a table: seconds of processor time, start included, and the peak of memory so far.
Answers are drawn from a few words, as human answers are. Not part of `make test`: timing decides nothing there.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

WORDS = [
    f"{colour} {thing}" for colour in ("red", "the blue", "a", "two") for thing in "dog cat car bus t-shirt".split()
]
Files = tuple[str, ...]


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def answer_file(folder: Path, texts: dict[Any, str]) -> tuple[str, str]:
    rows = [{"question_id": key, "prompt": "Q?", "text": text, "answer_id": "a"} for key, text in texts.items()]
    return "--predictions", lines(folder / "answers.jsonl", rows)


def vqav2(folder: Path) -> Files:
    draw = random.Random(0)
    rows = [
        {"question_id": i, "answer_type": "other", "answers": [{"answer": draw.choice(WORDS)} for _ in range(10)]}
        for i in range(214_354)
    ]
    answers = answer_file(folder, {i: draw.choice(WORDS).title() for i in range(len(rows))})
    return (*answers, "--annotations", lines(folder / "val.jsonl", rows))


def gqa(folder: Path) -> Files:
    draw = random.Random(0)
    gold = {str(i): {"question": "q", "imageId": "n", "answer": draw.choice(WORDS)} for i in range(12_578)}
    (folder / "testdev.json").write_text(json.dumps(gold))
    answers = answer_file(folder, {key: draw.choice(WORDS) for key in gold})
    return (*answers, "--annotations", str(folder / "testdev.json"))


def mmbench(folder: Path) -> Files:
    draw = random.Random(0)
    picture = "x" * 20_000  # base64, about 30 MB of them in the real table
    head = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image"]
    indices = [base + turn * 1_000_000 for base in range(1095) for turn in range(4)]
    table = [[str(i), "q", "", *WORDS[:4], draw.choice("ABCD"), "c", picture] for i in indices]
    (folder / "dev.tsv").write_text("\n".join("\t".join(row) for row in [head, *table]) + "\n")
    answers = answer_file(folder, {i: draw.choice("ABCD") for i in indices})
    return (*answers, "--annotations", str(folder / "dev.tsv"))


@pytest.mark.parametrize(("benchmark", "make"), [("gqa", gqa), ("mmbench", mmbench), ("vqav2", vqav2)])
def test_scoring_at_real_size(benchmark: str, make: Callable[[Path], Files], tmp_path: Path, capsys: Any) -> None:
    root = Path(__file__).parents[2]
    arguments = make(tmp_path)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "platform"), str(root)])}
    command = [sys.executable, "-m", "dpn_platform", "score", benchmark, *arguments, "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with capsys.disabled():
        print(f"\n{benchmark}: n = {json.loads(done.stdout)['n']}, {seconds:.1f} s, {after.ru_maxrss / 2**20:.2f} GiB")
