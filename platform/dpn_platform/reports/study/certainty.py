"""How sure the front is, in words and tables: picks, what extensions gained, what training seeds add."""

from __future__ import annotations

from html import escape

from dpn_platform.evaluation.front_records import Estimate, FrontStatistics, VolumeAt
from dpn_platform.reports.look.labels import interval, percent, ratio
from dpn_platform.reports.look.tables import change_cell, table


def share_text(share: float | None) -> str:
    """`83%`; nothing where it is not known. What lies between is never told as none or all."""
    if share is None:
        return ""
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{100 * share:.0f}%"


def volume_text(volume: Estimate) -> str:
    """`0.702, 0.694 to 0.709`: on questions that did not choose the front."""
    return f"{volume.value:.3f}, {volume.ci[0]:.3f} to {volume.ci[1]:.3f}"


def certainty_sentence(statistics: FrontStatistics) -> str:
    """What was drawn, and how it is to be read."""
    firm = sum(share >= 0.95 for share in statistics.membership.values())
    ever = sum(share > 0 for share in statistics.membership.values())
    left = f" Left out, for want of the same questions: {len(statistics.left_out)}." if statistics.left_out else ""
    return (
        f"{statistics.draws:,} fronts, each from other draws of the same {statistics.n:,} questions "
        f"({statistics.pictures:,} pictures, drawn as wholes): {firm} points are on at least 95% of them, {ever} on "
        "any. What chooses is flattered by its questions, so choices are also measured on those that a draw left out, "
        f"and the 95% intervals lie around that.{left}"
    )


def picks_table(statistics: FrontStatistics) -> str:
    """What each rule chooses, how often it would choose the same, and what that is worth."""
    rows = []
    for pick in statistics.picks:
        others = ", ".join(f"{name} {share_text(share)}" for name, share in pick.others.items())
        accuracy = f"{percent(pick.accuracy.value)}<br><small>{interval(pick.accuracy.ci)}</small>"
        numbers = (ratio(pick.cost), escape(share_text(pick.share)), percent(pick.accuracy.measured), accuracy)
        cells = "".join(f'<td class="number">{text}</td>' for text in numbers)
        what = f"<td>{escape(pick.rule)}</td><td>{escape(pick.point)}</td>"
        rows.append(f"<tr>{what}{cells}<td><small>{escape(others) or 'none'}</small></td></tr>")
    costs = f"FLOPs {statistics.convention}"
    head = ("rule", "point", costs, "same in draws", "accuracy %", "on other questions %", "chosen instead")
    return table(head, rows, frozenset({2, 3, 4, 5}))


def history_table(statistics: FrontStatistics) -> str:
    """The hypervolume after every extension; nothing where there was none."""
    if len(statistics.history) < 2:
        return ""
    rows = [
        f'<tr><td>{one.extension or "the beginning"}</td><td class="number">{one.num_points}</td>'
        f'<td class="number">{one.volume.measured:.4f}</td><td>{volume_text(one.volume)}</td><td>{_gain(one)}</td></tr>'
        for one in statistics.history
    ]
    head = ("extension", "points", "hypervolume", "on other questions", "gained, in hundredths")
    return table(head, rows, frozenset({1, 2}))


def _gain(one: VolumeAt) -> str:
    return "" if one.gain is None else change_cell(one.gain.value, *one.gain.ci)


def seeds_table(statistics: FrontStatistics) -> str:
    """Settings with several training seeds: how far seeds and questions move their mean; nothing without any."""
    if not statistics.seeds:
        return ""
    rows = []
    for group in statistics.seeds:
        errors = [f"{100 * error:.2f}" for error in (group.seeds_error, group.questions_error)]
        numbers = (str(group.num_seeds), percent(group.mean), interval(group.ci), *errors)
        cells = "".join(f'<td class="number">{text}</td>' for text in numbers)
        rows.append(f"<tr><td>{escape(group.setting)}</td>{cells}</tr>")
    of_error = ("standard error by seeds, points", "by questions, points")
    head = ("setting", "seeds", "accuracy %", "interval, seeds drawn too", *of_error)
    return table(head, rows, frozenset(range(1, 6)))
