"""How MLflow's UI keeps a view that is shared by its address: a tag of the experiment, in the UI's own words.

Read from the UI of MLflow 3.17, which documents none of it. What another UI does not know it leaves out; the runs
are there all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dpn_platform.config.errors import DpnError
from dpn_platform.tracking.records import View
from dpn_platform.tracking.tracker import NOTE_TAG

_VIEW_TAG = "mlflow.sharedViewState."
_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"
_CHART, _TABLE = "dpn-chart-", "dpn-table-"  # keys of views that people share begin otherwise
_MOST_LINKS = 30
_SECTION, _CHART_HEIGHT = "dpn-section", 460  # pixels


def view_address(experiment_url: str, view: View) -> str:
    """Where the UI shows a view."""
    return _address(experiment_url, _key(view))


def _address(experiment_url: str, key: str) -> str:
    """Not in the rooms that the UI has for chat programs, and as a chart if there is one."""
    mode = "&compareRunsMode=CHART" if key.startswith(_CHART) else ""
    return f"{experiment_url}/runs?viewStateShareKey={key}{mode}&workflowType=machine_learning"


def _key(view: View) -> str:
    return (_CHART if view.is_drawn else _TABLE) + view.key


def tags_of_experiment(view: View, present: Mapping[str, str], experiment_id: str, now_ms: int) -> dict[str, str]:
    """The tags to set for a view to be there, and to be found by who opens the experiment.

    Args:
        view: to be kept. One that is there stays: people may have changed it since.
        present: the experiment's tags. A description that somebody else wrote stays as it is.
        experiment_id: of the experiment.
        now_ms: time of the view, if it is new.
    """
    wanted = {} if _KIND_TAG in present else {_KIND_TAG: _KIND}
    key = _VIEW_TAG + _key(view)
    if key not in present:
        kept = {"name": view.title, "createdAt": now_ms, "updatedAt": now_ms, "state": json.dumps(_state(view))}
        wanted[key] = json.dumps(kept)
    note = _note({**present, **wanted}, experiment_id)
    if note != present.get(NOTE_TAG) in (None, "", _note(present, experiment_id)):
        wanted[NOTE_TAG] = note
    return wanted


def _note(tags: Mapping[str, str], experiment_id: str) -> str:
    """Links to our views: tables first, then charts, the newest first."""
    views = []
    for tag, value in tags.items():
        key = tag.removeprefix(_VIEW_TAG)
        if key != tag and key.startswith((_CHART, _TABLE)) and (kept := _envelope(value)):
            views.append((key.startswith(_TABLE), int(kept["createdAt"]), str(kept["name"]), key))
    newest = sorted(views, reverse=True)[:_MOST_LINKS]
    return " · ".join(f"[{name}]({_address(f'#/experiments/{experiment_id}', key)})" for _, _, name, key in newest)


def _envelope(value: str) -> dict[str, Any]:
    """A named view as the UI keeps it; empty for anything else."""
    try:
        document = json.loads(value)
    except ValueError:
        return {}
    return document if isinstance(document, dict) and {"name", "createdAt", "state"} <= set(document) else {}


def _state(view: View) -> dict[str, Any]:
    name, value = view.tag
    ordinary = {"deleted": False, "isGenerated": False}
    room = {
        "uuid": _SECTION,
        "name": "Chart",
        "display": True,
        "isReordered": True,
        "columns": 1,
        "cardHeight": _CHART_HEIGHT,
        **ordinary,
    }
    chart = {
        "uuid": "dpn-scatter",
        "type": "SCATTER",
        "metricSectionId": _SECTION,
        "xaxis": {"key": view.across, "type": "METRIC"},
        "yaxis": {"key": view.up, "type": "METRIC"},
        "runsCountToCompare": 500,
        **ordinary,
    }
    return {
        "searchFilter": f"tags.`{name}` = '{quoted(value)}'",
        "orderByKey": f"metrics.`{view.metrics[0]}`",
        "orderByAsc": view.is_ascending,
        "selectedColumns": [*(f"metrics.`{key}`" for key in view.metrics), *(f"tags.`{key}`" for key in view.tags)],
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,
        "compareRunSections": [room] if view.is_drawn else None,
        "compareRunCharts": [chart] if view.is_drawn else None,
    }


def quoted(text: str) -> str:
    """Text inside the single quotes of a filter: MLflow has no escape for them, so they may not occur."""
    if "'" in text:
        raise DpnError(f"a run's key may not hold a quote: {text}")
    return text
