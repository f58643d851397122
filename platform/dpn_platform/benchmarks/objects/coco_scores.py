"""COCO's twelve numbers of answered boxes, by faster-coco-eval (an optional package).

Sizes are those of true objects: of their outlines as in COCO's own files where the truth has them, else of their boxes.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np

from dpn_platform.benchmarks.objects.image_answers import AnswerSet
from dpn_platform.config.errors import DpnError

#: names of COCO's numbers, in its order
NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip


#: what is said where it is missing
MISSING = "AP needs the package faster-coco-eval, which is not installed: pip install 'dpn-lab[detection]'"


def has_coco() -> bool:
    """Whether the package is installed."""
    return find_spec("faster_coco_eval") is not None


def coco_scores(answers: AnswerSet, ranking: str) -> dict[str, float | None]:
    """Name -> value, 0 to 1; None where no true box is of that size.

    Boxes of equal rank keep their order: answers by picture, indices ascending.

    Args:
        answers: sorted out by class.
        ranking: what ranks the boxes, one of `answers.rankings`.

    Raises:
        DpnError: the package is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise DpnError(MISSING) from error
    truth, found = coco_records(answers, ranking)
    true = COCO(truth)
    evaluation = COCOeval_faster(true, true.loadRes(found), iouType="bbox")
    evaluation.run()
    return {
        name: None if value < 0 else float(value) for name, value in zip(NAMES, evaluation.stats.tolist(), strict=True)
    }


def coco_records(answers: AnswerSet, ranking: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What COCO's programs read: the true boxes as an annotation file has them, and the answered ones as a list."""
    true: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for category, boxes in enumerate(answers.classes.values(), start=1):
        rows = zip(boxes.answer_M, _as_xywh(boxes.box_M), boxes.crowd_M, boxes.area_M.tolist(), strict=True)
        for answer, box, crowd, area in rows:
            row = {"id": len(true) + 1, "image_id": int(answer) + 1, "category_id": category, "iscrowd": int(crowd)}
            true.append({**row, "bbox": box, "area": area})
        scores = boxes.score_D[ranking].tolist()
        for answer, box, score in zip(boxes.answer_D, _as_xywh(boxes.box_D), scores, strict=True):
            found.append({"image_id": int(answer) + 1, "category_id": category, "bbox": box, "score": score})
    images = [
        {"id": number, "width": one.shown.size[0], "height": one.shown.size[1]}
        for number, one in enumerate(answers.answers, start=1)
    ]
    categories = [{"id": number, "name": answers.names[key]} for number, key in enumerate(answers.classes, start=1)]
    return {"images": images, "annotations": true, "categories": categories}, found


def _as_xywh(boxes: np.ndarray) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
