"""What a study says, in words and numbers: the headline, the facts beside it, the caveats below it."""

from __future__ import annotations

from collections.abc import Sequence

from dpn_platform.evaluation.pareto import flops_ratio, flops_spread, front_points, knee
from dpn_platform.evaluation.points import Point
from dpn_platform.reports.look.labels import percent, ratio, signed_points
from dpn_platform.reports.study.certainty import volume_text
from dpn_platform.reports.study.controls import (
    against_dense,
    cheapest_as_good_as_dense,
    dense_control,
    family_losses,
    strongest_static,
)
from dpn_platform.reports.study.difference import Claim, Difference
from dpn_platform.reports.study.record import StudyRecord

#: a sentence that names more is not read
_MOST_NAMED = 40
DEFAULT_INTERVAL = "95% intervals over questions"


def headline(record: StudyRecord) -> str:
    """The study's result in at most three sentences; nothing is claimed that lies inside the intervals."""
    front = front_points(record.points, record.convention)
    if not front:
        return "No point of this study has been measured yet."
    dense = dense_control(record.points)
    if dense is None:
        count = f"{len(front)} of {len(record.points)} points are on the front"
        return f"{count}. Without a dense control nothing more is claimed."
    sentences = [_bargain_sentence(record, dense)]
    middle = knee(record.points, record.convention)
    if middle is not None and middle is not cheapest_as_good_as_dense(record.points, record.convention):
        change = against_dense(record.points).get(middle.name)
        if change is not None:
            cost = ratio(flops_ratio(middle, record.convention), 2)
            sentences.append(
                f"The knee of the front, {middle.name}, answers {percent(middle.accuracy)}% at {cost} of the FLOPs "
                f"({difference_text(change)})."
            )
    return " ".join(sentences)


def _bargain_sentence(record: StudyRecord, dense: Point) -> str:
    bargain = cheapest_as_good_as_dense(record.points, record.convention)
    base = f"the dense control ({percent(dense.accuracy)}%)"
    if bargain is None:
        return f"Every compressed point is measurably below {base}."
    cost = ratio(flops_ratio(bargain, record.convention), 2)
    change = against_dense(record.points)[bargain.name]
    verdict = "measurably better than" if change.low > 0 else "not measurably worse than"
    whose = "all FLOPs" if record.convention == "executed" else "the LLM's FLOPs"
    return f"{bargain.name} answers {percent(bargain.accuracy)}% at {cost} of {whose}, {verdict} {base}."


def difference_text(change: Difference) -> str:
    """`−4.0 points against dense, 95% interval −5.8 to −2.2`."""
    bounds = f"{signed_points(change.low)} to {signed_points(change.high)}"
    return f"{signed_points(change.value)} points against dense, interval {bounds}"


def differences_sentence(record: StudyRecord) -> str:
    """Which points cannot be told from the dense control, and which can."""
    changes = against_dense(record.points)
    if not changes:
        return "There is no dense control to compare with."
    inside = [name for name, change in changes.items() if not change.is_resolved]
    below = [name for name, change in changes.items() if change.high < 0]
    above = [name for name, change in changes.items() if change.low > 0]
    parts = [
        f"{label}: {', '.join(names) if len(changes) <= _MOST_NAMED else f'{len(names)} of {len(changes)} points'}."
        for label, names in (
            ("Inside the interval, so not told apart from dense", inside),
            ("Measurably below dense", below),
            ("Measurably above dense", above),
        )
        if names
    ]
    return " ".join(parts)


def claims_sentence(record: StudyRecord) -> str | None:
    """Which points beat the best mixture of controls at their own cost; None where nothing could be compared."""
    if not record.claims:
        return None
    held = [claim for claim in record.claims if claim.against == "controls"]
    above, below = _better(held), [claim for claim in held if claim.change.high < 0]
    rest = len(held) - len(above) - len(below)
    first = f"Beat the best mixture of controls at their own cost: {_told(above)}."
    sentence = f"{first} Not told apart from it: {rest} of {len(held)} points. Below it: {len(below)}."
    shuffled = [claim for claim in record.claims if claim.against != "controls"]
    if not shuffled:
        return sentence
    return f"{sentence} Beat their own routes, shuffled among samples: {_told(_better(shuffled))}, of {len(shuffled)}."


def _better(claims: Sequence[Claim]) -> list[Claim]:
    """Those whose interval lies above zero, the largest gain first."""
    return sorted((claim for claim in claims if claim.change.low > 0), key=lambda one: -one.change.value)


def _told(claims: Sequence[Claim]) -> str:
    return ", ".join(f"{claim.point} ({_gain(claim.change)})" for claim in claims) or "none"


def _gain(change: Difference) -> str:
    """`+1.2, 0.3 to 2.1`."""
    return f"{signed_points(change.value)}, {signed_points(change.low)} to {signed_points(change.high)}"


def families_sentence(record: StudyRecord) -> str | None:
    """Which families pay for static compression and which hardly do; None without both controls."""
    dense, static = dense_control(record.points), strongest_static(record.points)
    losses = family_losses(dense, static) if dense is not None and static is not None else []
    if static is None or len(losses) < 2:
        return None
    most, least = losses[0], losses[-1]
    known = "more than the intervals allow for" if most.loss.low > least.loss.high else "though their intervals overlap"
    dearest, cheapest = (signed_points(item.loss.value).lstrip("+") for item in (most, least))
    return (
        f"Under {static.name}, {most.family} loses {dearest} points and {least.family} {cheapest}: "
        f"families do not pay alike, {known}."
    )


def facts(record: StudyRecord, volume: float, num_questions: int) -> list[tuple[str, str]]:
    """(value, what it is) of the tiles at the top."""
    front = front_points(record.points, record.convention)
    return [
        (f"{len(front)} of {len(record.points)}", "points on the front"),
        (ratio(flops_spread(record.points, record.convention), 2), f"FLOPs ratio spanned ({record.convention})"),
        (f"{volume:.3f}", _volume_label(record)),
        (f"{num_questions:,}" if num_questions else "unknown", "held-out questions per point"),
    ]


def _volume_label(record: StudyRecord) -> str:
    label = "hypervolume (from accuracy 0, ratio 1)"
    if record.statistics is None:
        return label
    return f"{label}; on questions that did not choose the front {volume_text(record.statistics.hypervolume)}"


def method_notes(record: StudyRecord) -> list[str]:
    """How the numbers were measured, and what they do not say."""
    kind, axis = record.meta.get("interval") or DEFAULT_INTERVAL, record.meta.get("accuracy") or "heldout"
    held_out = f"exact answers on the held-out split '{record.meta.get('split', 'test')}'"
    return [
        f"Accuracy: {held_out if axis == 'heldout' else f'of {axis}'}. Error bars: {kind}. "
        "They cover the choice of questions, not the training seed: a point is one training run, or the mean of some "
        "seeds with the mean of their intervals, and the seeds' range beside it.",
        "Differences against dense: Newcombe's interval from the two runs' own intervals. All points answered the same "
        "questions, so this interval is rather too wide than too narrow. Many points are compared at once; no "
        "correction is made for that.",
        "FLOPs ratio: the LLM's forward pass relative to no compression, from the token counts that really ran at each "
        "layer, averaged over samples. `swiglu` counts three-matrix MLPs and text tokens, `eq8` is the paper's formula "
        "(visual tokens only). The vision tower is not included.",
        "Against controls: the point minus the best mixture of at most two controls (dense among them) that costs as "
        "much on average, each question's score in it weighted with the shares; paired bootstrap over the same "
        "questions. The mixture is chosen by the same questions, which favours it. Seeds are averaged. Many points are "
        "compared at once; no correction is made for that.",
        "A point is on the front if no other point is at least as accurate at no more FLOPs; ties stay on it. Exact "
        "values decide, so neighbours on the front may lie inside each other's intervals.",
    ]


def questions(record: StudyRecord) -> int:
    """Questions per point: the largest n of the study, from the families where points carry none."""
    return max((point.n or sum(score.n for score in point.per_family.values()) for point in record.points), default=0)


def interval_note(record: StudyRecord) -> str:
    """What the error bars are: number of questions and kind of interval."""
    kind = str(record.meta.get("interval") or DEFAULT_INTERVAL)
    n = questions(record)
    return f"n = {n:,} questions per point; {kind}" if n else kind
