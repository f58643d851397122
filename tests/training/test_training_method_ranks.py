"""Every method with weights of its own under ZeRO-2, on two ranks of which one reads texts alone: as one process.

A weight that the rank without pictures leaves out, or reaches in another order, ends the launch or spoils the sums.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpn_model.methods import registry
from dpn_platform.training.loop import step_seed, to_device
from dpn_platform.training.optimizer import build_optimizer, build_schedule
from tests.model.methods.subject import Subject, own_weights
from tests.model.methods.toys import TOYS
from tests.training.method_ranks import STEPS, TRAIN, WORLD_SIZE, micro_batches, with_weights

pytestmark = pytest.mark.slow

LAUNCH_TIMEOUT_S = 600
# As in test_training_ranks.py, where they were measured.
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 5e-6, 2e-6


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """Folder with what both ranks left of every method, and their logs."""
    folder = tmp_path_factory.mktemp("method-ranks")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root), str(repo_root / "platform")])}
    ranks = []
    for rank in range(WORLD_SIZE):
        command = [sys.executable, "-W", "ignore", "-m", "tests.training.method_ranks", str(rank), str(folder)]
        with (folder / f"rank{rank}.log").open("w") as log:
            ranks.append(subprocess.Popen(command, env=env, cwd=repo_root, stdout=log, stderr=log))
    try:
        for rank in ranks:
            rank.wait(LAUNCH_TIMEOUT_S)
    finally:
        for rank in ranks:
            rank.kill()
    return folder


def one_process(subject: Subject) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and final weights where one process sees both ranks' samples in every step, with each rank's draws."""
    model = subject.model.train()
    optimizer = build_optimizer(model, TRAIN)
    schedule = build_schedule(optimizer, TRAIN)
    of_ranks = [micro_batches(subject, rank) for rank in range(WORLD_SIZE)]
    losses = []
    for step in range(STEPS):
        outputs = []
        model.tell_progress(step / STEPS)
        for rank in range(WORLD_SIZE):
            torch.manual_seed(step_seed(TRAIN.seed, step + 1, rank))
            outputs.append(model(**to_device(of_ranks[rank][step], torch.device("cpu"), torch.float32)))
        tokens = sum(out.num_supervised_tokens for out in outputs)
        loss_lm = sum(out.loss_lm * out.num_supervised_tokens for out in outputs) / tokens
        losses.append(loss_lm.item())
        optimizer.zero_grad()
        pictured = outputs[1]  # terms of the method are means over samples with pictures
        (loss_lm + pictured.loss - pictured.loss_lm).backward()
        torch.nn.utils.clip_grad_norm_([one for one in model.parameters() if one.requires_grad], TRAIN.max_grad_norm)
        optimizer.step()
        schedule.step()
    return losses, {name: tensor.detach() for name, tensor in model.state_dict().items()}


def test_methods_train_the_weights_of_one_process(launched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, spec in TOYS.items():
        monkeypatch.setitem(registry._REGISTERED, name, spec)
    wrong: dict[str, str] = {}
    trained = list(with_weights())
    for called, subject in trained:
        files = [launched / f"{called}-rank{rank}.pt" for rank in range(WORLD_SIZE)]
        if not all(path.exists() for path in files):
            logs = "\n".join((launched / f"rank{rank}.log").read_text()[-2000:] for rank in range(WORLD_SIZE))
            pytest.fail(f"{called} did not finish; behind {wrong or 'others that were right'}\n{logs}")
        first, second = (torch.load(path) for path in files)
        own = own_weights(subject.model)
        before = {name: weight.detach().clone() for name, weight in own.items() if weight.requires_grad}
        losses, weights = one_process(subject)
        apart = {name: float((first["weights"][name] - weights[name]).abs().max()) for name in weights}
        worst = max(apart, key=apart.__getitem__)
        if first["losses"] != second["losses"] or first["losses"] != pytest.approx(losses, rel=LOSS_TOLERANCE):
            wrong[called] = f"losses {first['losses']} and {second['losses']}, of one process {losses}"
        elif not apart[worst] < WEIGHT_TOLERANCE:
            wrong[called] = f"{worst} is {apart[worst]:.1e} apart"
        elif all(torch.equal(weights[name], before[name]) for name in before):
            wrong[called] = f"none of {sorted(before)} has moved"
    assert wrong == {}
    assert trained
