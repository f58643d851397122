"""One slot of a pipeline: refresh the data, extend the study, report, promote, tell.

Each stage is recorded when it has ended; a slot that was killed goes on at the stage it was in, and a study at the
trial it was in. A slot that is done does nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dpn_platform.config.errors import ConfigError, DpnError
from dpn_platform.config.pipeline import PipelineConfig, RefreshConfig
from dpn_platform.config.schema import ExperimentConfig
from dpn_platform.config.sweep import SweepConfig
from dpn_platform.data.ingest.job import IngestOptions, ingest
from dpn_platform.data.ingest.splitting import open_raw
from dpn_platform.data.published.manifest import FILE_NAME, Manifest, load_manifest
from dpn_platform.pipelines.report import report_study, tracker_aliases
from dpn_platform.pipelines.slots import Slot, Slots
from dpn_platform.pipelines.webhook import tell
from dpn_platform.storage import ensure_bucket, exists, join_uri, write_bytes
from dpn_platform.sweeps.events import OnEvent, StudyEvent
from dpn_platform.sweeps.lease import Holder, Lease
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.promotion.decision import Decision
from dpn_platform.sweeps.promotion.guarding import Guards
from dpn_platform.sweeps.promotion.promote import promote
from dpn_platform.sweeps.proposals import by_proposal
from dpn_platform.sweeps.study import StudyResult, run_study
from dpn_platform.sweeps.trainable import Execute, train_and_evaluate
from dpn_platform.tracking import open_tracker

REFRESH, PLAN, STUDY, PROMOTE, TELL = "refresh", "plan", "study", "promote", "tell"


def run_slot(
    config: ExperimentConfig,
    name: str,
    *,
    on_event: OnEvent = lambda event: None,
    execute: Execute = train_and_evaluate,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Slot:
    """Run or continue a slot of the pipeline that `config` describes. Ray must be initialised.

    Args:
        config: an experiment with the sections `sweep` and `pipeline`.
        name: of the slot, a date as a rule.
        on_event: told of everything that happens.
        execute: what one trial is.
        now: the time.

    Raises:
        DpnError: no such section, another slot of this pipeline runs, or a stage failed; what was done stays done.
    """
    if config.pipeline is None or config.sweep is None:
        raise ConfigError(f"config '{config.name}' has no section 'pipeline'; see jobs/configs/nightly.yaml")
    ensure_bucket(config.storage.runs_uri)
    slots = Slots(config.storage.runs_uri, config.name)
    with Lease(f"{slots.uri}/lease", Holder.this_process(), _lost(on_event)):
        slot = slots.open(name, timedelta(hours=config.pipeline.every_hours), now())
        running = _Running(config, config.pipeline, config.sweep, slots, on_event, execute)
        if not slot.ended:
            slot = running.to_its_end(slot)
            slot = replace(slot, ended=now().isoformat(timespec="seconds"))
            slots.put(slot)
        return slot


def _lost(on_event: OnEvent) -> Callable[[], None]:
    return lambda: on_event(StudyEvent("note", "another process has taken this pipeline over"))


@dataclass
class _Running:
    config: ExperimentConfig
    pipeline: PipelineConfig
    sweep: SweepConfig
    slots: Slots
    on_event: OnEvent
    execute: Execute

    def to_its_end(self, slot: Slot) -> Slot:
        """Every stage that is open."""
        slot = self.slots.done_once(slot, REFRESH, self._refresh)
        slot = self.slots.done_once(slot, PLAN, lambda: self._plan(slot.stages[REFRESH]))
        slot = self.slots.done_once(slot, STUDY, lambda: self._study(slot.stages[PLAN]))
        slot = self.slots.done_once(slot, PROMOTE, lambda: self._promote(slot.stages[PLAN]["study"]))
        return self.slots.done_once(slot, TELL, lambda: self._tell(slot))

    def _refresh(self) -> dict[str, Any]:
        """New annotations, ingested: shards whose rows did not change are kept as they are."""
        uri = self.config.data.uri
        before = load_manifest(uri) if exists(join_uri(uri, FILE_NAME)) else None
        if self.pipeline.refresh is not None:
            _ingest(self.pipeline.refresh, uri, before, self.on_event)
        manifest = load_manifest(uri)
        rows = {split: found.rows for split, found in manifest.splits.items()}
        is_new = before is None or manifest.fingerprint != before.fingerprint
        return {"data": manifest.fingerprint, "rows": rows, "is_new": is_new}

    def _plan(self, refreshed: Mapping[str, Any]) -> dict[str, Any]:
        """How far the study is to go: written down first, so that a second attempt goes no farther.

        Other data are other questions: they get a study of their own.
        """
        study = f"{self.config.name}-{refreshed['data'][:8]}"
        ledger = Ledger(self.config.storage.runs_uri, study)
        is_there = exists(ledger.header_uri)
        trials = list(ledger.trials().values()) if is_there else []
        spent = sum(trial.device_hours for trial in trials)
        tonight = self.pipeline.device_hours
        sampled = max(0, len(by_proposal(trials)) - len(self.sweep.points))
        return {
            "study": study,
            "extension": len(ledger.header().extensions) + 1 if is_there else 0,
            "num_trials": sampled + self.pipeline.trials,
            "device_hours": None if tonight is None else spent + tonight,
        }

    def _study(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        limits = self.sweep.limits
        if plan["device_hours"] is not None:
            limits = limits.model_copy(update={"device_hours": plan["device_hours"]})
        sweep = self.sweep.model_copy(update={"num_trials": plan["num_trials"], "limits": limits})
        config = self.config.model_copy(update={"sweep": sweep, "pipeline": None})
        ledger = Ledger(config.storage.runs_uri, plan["study"])
        is_there = exists(ledger.header_uri)
        result = run_study(
            config, study_name=plan["study"], extend=is_there, on_event=self.on_event, execute=self.execute
        )
        report_study(config, result)
        return _came_to(result, plan["extension"])

    def _promote(self, study: str) -> dict[str, Any]:
        ledger = Ledger(self.config.storage.runs_uri, study)
        guards = Guards(self.pipeline.guards, self.pipeline.margin)
        decisions = promote(ledger, self.pipeline.aliases, guards, alpha=self.pipeline.alpha)
        tracker = open_tracker(self.config.tracking, self.config.storage.runs_uri)
        for alias, point in tracker_aliases(ledger).items():
            try:
                tracker.set_alias(study, alias, point)
            except DpnError as error:  # a point without a model, or a registered model that somebody deleted
                self.on_event(StudyEvent("note", str(error)))
        return {"decisions": [decision.to_json() for decision in decisions]}

    def _tell(self, slot: Slot) -> dict[str, Any]:
        note = slot_note(self.config.name, slot)
        uri = f"{self.slots.uri}/notes/{slot.name.replace(':', '-')}.md"
        write_bytes(uri, note.encode())
        problem = tell(self.pipeline.webhook_variable, note)
        if problem is not None:
            self.on_event(StudyEvent("note", problem))
        return {"note": uri, "problem": problem}


def _ingest(refresh: RefreshConfig, target: str, before: Manifest | None, on_event: OnEvent) -> None:
    """Publishes the source as it is today; earlier versions stay readable.

    Raises:
        DpnError: what is published there was made of another source.
    """
    raw = open_raw(refresh.source, images=refresh.images)
    if before is not None and before.source != raw.name:
        raise DpnError(f"{target} was made of {before.source}, pipeline.refresh.source is {raw.name}; choose another")
    options = IngestOptions(max_quarantined=refresh.max_quarantined)
    ingest(raw, target, options=options, force=True, on_note=lambda line: on_event(StudyEvent("note", line)))


def _came_to(result: StudyResult, extension: int) -> dict[str, Any]:
    """What the slot has added, in whichever of its attempts, for the record and the note."""
    return {
        "study": result.study_name,
        "points": len(result.points),
        "new": sorted(point.name for point in result.points if point.extension >= extension),
        "failed": result.failed,
        "limit": result.meta.get("limit"),
        "report": f"{result.ledger_uri}/report/report.html",
    }


def slot_note(pipeline: str, slot: Slot) -> str:
    """A slot in a few lines of markdown."""
    study = slot.stages[STUDY]
    lines = [f"**{pipeline}, {slot.name}**: {len(study['new'])} new points, {study['points']} in all."]
    lines += [f"- {remark}" for remark in slot.remarks]
    if slot.stages[REFRESH]["is_new"]:
        lines.append(f"- data: {slot.stages[REFRESH]['data']}, {slot.stages[REFRESH]['rows']}")
    for decision in map(Decision.model_validate, slot.stages[PROMOTE]["decisions"]):
        lines.append(f"- {decision.alias}: {decision.action}, {decision.holder or 'nobody'}. {decision.reason}")
    lines += [f"- stopped: {study['limit']}"] if study["limit"] else []
    lines += [f"- failed: {key}: {reason}" for key, reason in study["failed"].items()]
    return "\n".join([*lines, f"- report: {study['report']}"]) + "\n"
