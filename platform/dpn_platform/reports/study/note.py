"""What a study's page in the tracker begins with: the result, the front as a table and a picture, how to go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpn_platform.evaluation.pareto import flops_ratio, front_points, knee
from dpn_platform.evaluation.points import Point
from dpn_platform.reports.look.labels import interval, percent, ratio, seeds_text
from dpn_platform.reports.look.methods import label_of_method
from dpn_platform.reports.study.front_models import BEST, URI_TAG
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.summary import headline, interval_note

#: characters; a tracker adds the addresses of pictures, and cuts what is longer than its tags may be
NOTE_LENGTH = 4600
_GAP = "&nbsp;"  # MLflow draws tables without any room between columns
_FLOPS = {
    "swiglu": "the language model's forward pass, text tokens and three-matrix MLPs included, vision tower left out",
    "eq8": "the paper's formula: the language model's forward pass over visual tokens alone",
    "executed": "all that ran up to the first answer token: tower, projector, language model, the method's own work",
}


def study_note(record: StudyRecord, picture: str, report: str, chart: str) -> str:
    """Markdown of at most `NOTE_LENGTH` characters; of a front that is too long, points between its ends are left out.

    Args:
        record: the study.
        picture, report: names of the artifacts.
        chart: address of the tracker's own; empty where there is none.
    """
    front = front_points(record.points, record.convention)
    for count in range(len(front), -1, -1):
        note = _note(record, front, _spread(front, count), picture, report, chart)
        if len(note) <= NOTE_LENGTH:
            break
    return note


def _note(
    record: StudyRecord, front: Sequence[Point], shown: Sequence[Point], picture: str, report: str, chart: str
) -> str:
    # The UI shows the first lines and folds the rest.
    parts = [f"**{headline(record)}**", *([f"[Every trial, accuracy against cost]({chart})"] if chart else [])]
    if shown:
        parts.append(_table(record, shown))
    if len(shown) < len(front):
        parts.append(f"{len(shown)} of the {len(front)} points of the front; all of them are in `{report}`.")
    parts += [
        f"![The front]({picture})",
        f"Accuracy: of `{record.meta.get('accuracy') or 'heldout'}`, {interval_note(record)}. "
        f"FLOPs ratio `{record.convention}`: {_FLOPS[record.convention]}, relative to no compression, a mean over "
        "the questions. A point is on the front if no other is at least as accurate at no more FLOPs; neighbours may "
        f"lie inside each other's intervals. The whole report is the artifact `{report}`.",
    ]
    if front:
        parts.append(_loading(record, front[-1]))
    if command := str(record.meta.get("command") or ""):
        parts.append(f"Continue it, or go further with more trials:\n\n```\n{_continuing(command, record.name)}\n```")
    return "\n\n".join(parts) + "\n"


def _table(record: StudyRecord, points: Sequence[Point]) -> str:
    middle = knee(record.points, record.convention)
    rows = [
        f"| {point.name}{' (knee)' if middle is not None and point.name == middle.name else ''}{_GAP} "
        f"| {label_of_method(point.method)}{_GAP} | {percent(point.accuracy)} ({interval(point.accuracy_ci)}"
        f"{seeds_text(point)}){_GAP} | {ratio(flops_ratio(point, record.convention))} "
        f"| {ratio(point.visual_tokens_mean, 1)} |"
        for point in points
    ]
    head = f"| front | method | accuracy % (interval){_GAP} | FLOPs ratio ({record.convention}){_GAP} | visual tokens |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def _loading(record: StudyRecord, best: Point) -> str:
    """How a model of the front becomes a folder that `from_pretrained` reads."""
    lines = [
        "from mlflow import MlflowClient",
        "from dpn_model import DpnForConditionalGeneration",
        "from dpn_platform.storage import download_folder",
        "",
        f'chosen = MlflowClient().get_model_version_by_alias("{record.name}", "{BEST}")',
        f'download_folder(chosen.tags["{URI_TAG}"], "model")',
        'model = DpnForConditionalGeneration.from_pretrained("model")',
    ]
    what = f"A model of it, here the most accurate ({best.name}); its versions and their other aliases"
    return "\n".join([f"{what} are in the Model registry, as `{record.name}`:", "", "```", *lines, "```"])


def _continuing(command: str, study: str) -> str:
    """The command that ran, without its program's folder, asked to resume the study."""
    program, *words = command.split(" ")
    kept = [word for word, before in zip(words, ["", *words], strict=False) if "--name" not in (word, before)]
    plain = [word for word in kept if word != "--resume" and not word.startswith("--name=")]
    return " ".join([Path(program).name, *plain, "--name", study, "--resume"])


def _spread(points: Sequence[Point], count: int) -> list[Point]:
    """So many of the points, both ends among them."""
    if count >= len(points) or count < 2:
        return list(points[:count])
    return [points[round(place * (len(points) - 1) / (count - 1))] for place in range(count)]
