"""How long a study takes to be listed and shown as it grows: on a disk and in the embedded S3, step by step.

Command: python tests/benchmarks/study_growth.py [trials ...]      (PYTHONPATH=platform:.)

A study of made-up trials is written into each store, with the point of every trial in its ledger and nothing else:
`dpn study show` needs no more. "learn" is what the search takes to hear of all trials (TPE, once per attempt),
"decide" its next proposal. Every figure is the best of three, seconds by the clock and (in brackets) of the
process's CPU; the last column is the command as a user starts it, imports and all.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from typing import Any

from rich.console import Console

from dpn_platform.reports.study.brief import brief_of
from dpn_platform.reports.study.export import document_json
from dpn_platform.reports.study.front import with_front
from dpn_platform.reports.study.record import StudyRecord
from dpn_platform.reports.study.table import front_table
from dpn_platform.reports.study.terminal import front_drawing
from dpn_platform.services import session
from dpn_platform.storage import delete_folder, ensure_bucket, together
from dpn_platform.sweeps.catalogue import list_studies, read_study
from dpn_platform.sweeps.ledger import Ledger
from dpn_platform.sweeps.search import StudySearch
from dpn_platform.sweeps.trials import Trial, method_name, searched_trial, shown_params
from tests.sweeps.written_studies import Made, result_of, study_config

QUESTIONS = 4000
TIMES = 3
HEAD = ("trials", "list", "read", "front", "table", "drawing", "brief", "document", "learn", "decide", "dpn study show")


def write(runs_uri: str, num_trials: int) -> Ledger:
    """Dense and so many trials, whose accuracy grows with their cost, on 4,000 questions each."""
    ledger = Ledger(runs_uri, f"study-{num_trials}")
    ledger.create(study_config(runs_uri))
    draw = random.Random(0)
    costs = [1.0, *(draw.uniform(0.3, 1.0) for _ in range(num_trials - 1))]
    found = []
    for number, cost in enumerate(costs):
        is_dense = number == 0
        params = {
            "method.routing_loss.weight": draw.uniform(0.01, 1.0),
            "method.routing_loss.target": draw.uniform(0.5, 1.8),
            "method.experts": ["1x1", "1x2", "2x2"],
        }
        trial = Trial("dense", {"method.name": "dense"}, is_control=True)
        found.append(Made(trial if is_dense else searched_trial(number - 1, "dpn", params), cost, answers(draw, cost)))
    together(lambda made: ledger.put(finished(ledger, made)), found)
    ledger.finish(1.0)
    return ledger


def answers(draw: random.Random, cost: float) -> list[bool]:
    right = round(QUESTIONS * (0.5 + 0.4 * cost - draw.uniform(0, 0.3) * (cost < 1)))
    return [True] * right + [False] * (QUESTIONS - right)


def finished(ledger: Ledger, made: Made) -> Trial:
    trial, run_uri = made.trial, f"{ledger.runs_uri}/{ledger.study}-{made.trial.key}"
    point = result_of(made, run_uri).to_point(
        trial.key, method_name(trial), params=shown_params(trial), is_control=trial.is_control
    )
    values = {"accuracy": point.accuracy, "flops_ratio": point.flops_ratio["swiglu"]}
    return trial.become("finished", values=values, evaluation_uri=f"{run_uri}/evaluation", point=point.to_json())


def best_of(action: Callable[[], Any]) -> tuple[Any, str]:
    """(result, "clock (CPU)")."""
    found = []
    for _ in range(TIMES):
        clock, cpu = time.perf_counter(), time.process_time()
        result = action()
        found.append((time.perf_counter() - clock, time.process_time() - cpu))
    clock, cpu = min(found)
    return result, f"{clock:.2f} ({cpu:.2f})"


def printed(renderable: Any) -> None:
    Console(file=io.StringIO(), width=100).print(renderable)


def command(ledger: Ledger) -> str:
    """Seconds of the whole command."""
    found = []
    for _ in range(TIMES):
        clock, before = time.perf_counter(), os.times()
        arguments = [sys.executable, "-m", "dpn_platform", "study", "show", ledger.uri]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        spent = os.times()
        cpu = spent.children_user + spent.children_system - before.children_user - before.children_system
        found.append((time.perf_counter() - clock, cpu))
    return "{:.2f} ({:.2f})".format(*min(found))


def measure(ledger: Ledger, num_trials: int) -> tuple[str, ...]:
    _, listed = best_of(lambda: list_studies(ledger.runs_uri, with_records=True))
    study, read = best_of(lambda: read_study(ledger))
    record, front = best_of(lambda: with_front(StudyRecord(study.name, study.points)))
    table = best_of(lambda: printed(front_table(record)))[1]
    drawing = best_of(lambda: printed(front_drawing(record.points, "swiglu", 100)))[1]
    brief = best_of(lambda: brief_of(record.points, "swiglu"))[1]
    document = best_of(lambda: document_json(record))[1]
    sweep = study_config(ledger.runs_uri).sweep
    assert sweep is not None
    more = sweep.model_copy(update={"num_trials": num_trials + 2 * TIMES})
    search, learn = best_of(lambda: StudySearch(more, study.trials, lambda trial, known: trial))
    assert len(search.study.trials) == num_trials - 1, "what was not told takes no time"
    decide = best_of(lambda: search.suggest(uuid.uuid4().hex))[1]
    return (f"{num_trials}", listed, read, front, table, drawing, brief, document, learn, decide, command(ledger))


def report(store: str, runs_uri: str, sizes: list[int]) -> None:
    ensure_bucket(runs_uri)
    print(f"\n{store}: {runs_uri}\n" + "".join(f"{name:>16}" for name in HEAD), flush=True)
    for size in sizes:
        ledger = write(f"{runs_uri}/{size}", size)
        print("".join(f"{cell:>16}" for cell in measure(ledger, size)), flush=True)
    delete_folder(runs_uri)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", type=int, default=[50, 500, 5000])
    given = parser.parse_args().trials
    with tempfile.TemporaryDirectory() as folder:
        report("disk", f"file://{folder}/runs", given)
        os.environ["DPN_HOME"] = f"{folder}/home"
        with session({"s3"}, home=f"{folder}/home"):
            report("embedded S3", "s3://dpn/growth", given)
