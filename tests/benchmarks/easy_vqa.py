"""easy-VQA in LLaVA's layout: a set that this project did not draw, for the proof of routing in docs/routing.md.

    pip download easy-vqa==1.0 --no-deps && unzip easy_vqa-1.0-py3-none-any.whl -d FOLDER
    python -m tests.benchmarks.easy_vqa FOLDER DEST
    dpn data ingest DEST URI --images FOLDER/easy_vqa/data

FOLDER is the unpacked wheel, or whatever else holds `easy_vqa` (an environment's site-packages). DEST gets train.json
and test.json, a question a record; with `--whole-pictures` training records carry all questions about their picture,
about ten, which a base learns from at twice the tokens. Pictures stay where they are. Questions and answers are the
set's own; families are made from them: what the answer names, or what a yes-no question asks about. MIT licence.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dpn_platform.config.errors import DpnError

SHAPES = {"circle", "rectangle", "triangle"}
SPLITS = ("train", "test")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument(
        "--whole-pictures", action="store_true", help="training records carry all of a picture's questions"
    )
    given = parser.parse_args(arguments)
    try:
        written = convert(given.folder, given.dest, whole_pictures=given.whole_pictures)
    except DpnError as error:
        print(f"easy_vqa: {error}", file=sys.stderr)
        return 2
    print(f"{given.dest}: {', '.join(f'{rows} {split} records' for split, rows in written.items())}")
    print(f"next: dpn data ingest {given.dest} URI --images {data_folder(given.folder)}")
    return 0


def convert(folder: Path, dest: Path, *, whole_pictures: bool = False) -> dict[str, int]:
    """Write both splits.

    Returns:
        Records by split.

    Raises:
        DpnError: no easy-VQA there, or a question it does not look like, or `dest` holds a split already.
    """
    data = data_folder(folder)
    records = {split: read_split(data, split) for split in SPLITS}
    if whole_pictures:
        records["train"] = _by_picture(records["train"])
    there = [str(dest / f"{split}.json") for split in SPLITS if (dest / f"{split}.json").exists()]
    if there:
        raise DpnError(f"{there[0]} is there already; choose another folder")
    dest.mkdir(parents=True, exist_ok=True)
    for split, of_split in records.items():
        (dest / f"{split}.json").write_text(json.dumps(of_split))
    return {split: len(of_split) for split, of_split in records.items()}


def data_folder(folder: Path) -> Path:
    """The folder of both splits."""
    data = folder / "easy_vqa" / "data"
    for split in SPLITS:
        if not (data / split / "questions.json").is_file():
            raise DpnError(
                f"{folder}: no easy_vqa/data/{split}/questions.json; wanted the unpacked wheel of easy-vqa 1.0"
            )
    return data


def read_split(data: Path, split: str) -> list[dict[str, Any]]:
    """Records of one split; ids count its questions, picture paths are relative to `data`."""
    file = data / split / "questions.json"
    try:
        rows = json.loads(file.read_text())
        return [_record(split, number, *row) for number, row in enumerate(rows)]
    except (ValueError, TypeError) as error:
        raise DpnError(f"{file}: wanted a list of [question, answer, picture number]: {error}") from None


def _record(split: str, number: int, question: str, answer: str, picture: int) -> dict[str, Any]:
    return {
        "id": f"easy-vqa-{split}-{number:05d}",
        "image": f"{split}/images/{picture}.png",
        "conversations": [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}],
        "family": family_of(question, answer),
    }


def _by_picture(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One record a picture, named after its first question, whose family it has."""
    of_picture: dict[str, dict[str, Any]] = {}
    for record in records:
        first = of_picture.setdefault(record["image"], record)
        if first is not record:
            question, answer = record["conversations"]
            first["conversations"] += [question | {"value": question["value"].removeprefix("<image>\n")}, answer]
    return list(of_picture.values())


def family_of(question: str, answer: str) -> str:
    """`shape`, `colour`, `is-shape` or `is-colour`: a yes-no question about no shape's name asks about a colour."""
    if answer not in ("yes", "no"):
        return "shape" if answer in SHAPES else "colour"
    return "is-shape" if any(shape in question for shape in SHAPES) else "is-colour"


if __name__ == "__main__":
    sys.exit(main())
