"""What every registered method saves in time, beside what it saves in FLOPs: prefill, short answers, a training step.

    python tests/benchmarks/rivals_speed.py --methods fastv,divprune                     # CPU, a model of 12 layers
    python tests/benchmarks/rivals_speed.py --device cuda --base llava-1.5-7b --json rivals.json    # random weights

Methods run at one depth-weighted share of visual tokens (`--budget`), those whose cost nothing turns at their
defaults. All take turns on one model and one batch in one process; figures are medians over rounds of ratios within a
round, and every other round runs in reverse. On a CPU the times are CPU times of one thread, which a busy machine
disturbs least. Needs torch, transformers and rich only.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from dpn_model.configuration import base_config  # noqa: E402
from dpn_model.methods.registry import DENSE, find_method, method_names  # noqa: E402
from tests.benchmarks.rival_runs import PHASES, PREFILL, Rival, Track, rivals_of, twin_of  # noqa: E402
from tests.benchmarks.speed_case import BASES, random_model, toy_config  # noqa: E402

#: a method's time over dense, over its FLOPs over dense, at the largest batch
MOST_OVER_FLOPS = 1.10
#: of the prefill, what ranking by the decoder's attention may take
MOST_OF_SELECTION = 0.05
#: FLOPs saved, as a share, below which time per FLOP saved says nothing
LEAST_SAVED = 0.02


@dataclass
class Figures:
    """Of one method at one batch size.

    Attributes:
        settings: as a recipe's section.
        note: why it does not run at the budget.
        time, flops: by phase, over dense.
        decoder_swiglu: FLOPs of the decoder's prefill over dense, in that convention.
        selection_macs: what the method multiplies beside the layers, as a share of the prefill.
        selection_time: what its prefill takes over that of the same token counts by place, as a share of it; None where
            no method by place does the same.
        beyond_kernel: what it needs beside layers that run whole on the fused kernel.
        ranks_by_attention: whether rows of the decoder's attention rank.
    """

    settings: dict[str, object]
    note: str
    beyond_kernel: tuple[str, ...]
    ranks_by_attention: bool
    time: dict[str, float] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)
    decoder_swiglu: float = 1.0
    selection_macs: float = 0.0
    selection_time: float | None = None

    def saved_per_flop(self, phase: str) -> float | None:
        """Share of time saved over share of FLOPs saved; None where next to no FLOPs are saved."""
        saved = 1 - self.flops[phase]
        return (1 - self.time[phase]) / saved if saved >= LEAST_SAVED else None

    def over_flops(self, phase: str) -> float:
        """Time ratio over FLOPs ratio."""
        return self.time[phase] / self.flops[phase]


def main(arguments: list[str] | None = None) -> dict[int, dict[str, Figures]]:
    """Measure and print; the figures by batch size and method."""
    options = parse_options(arguments)
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    config = toy_config(options.image_size) if options.base == "toy" else base_config(options.base)
    model = random_model(config, options)
    rivals, left_out = rivals_of(model, options.methods, options.budget)
    console = Console(width=options.width, highlight=False, soft_wrap=True)
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    low, high = options.text
    console.print(
        f"{options.base}, {model.model_shape.decoder.num_layers} layers, on {where}, torch {torch.__version__}, "
        f"{model.lm_head.weight.dtype}; {model.num_visual_tokens()} visual tokens and {low} to {high} others a sample; "
        f"budget {options.budget:.3g}; medians of {options.rounds} rounds"
    )
    for line in left_out:
        console.print(line, markup=False)
    found: dict[int, dict[str, Figures]] = {}
    dense_ms: dict[int, dict[str, float]] = {}
    for batch in options.batches:
        found[batch], dense_ms[batch] = measure(Track(model, options, batch), rivals, options.rounds)
        print_table(console, batch, found[batch], dense_ms[batch])
    for rival in rivals[1:]:
        if rival.note:
            console.print(f"{rival.name} runs at its defaults: {rival.note}", markup=False)
    print_targets(console, max(found), found[max(found)])
    if options.json:
        told = {
            batch: {"dense_ms": dense_ms[batch], "methods": {name: asdict(own) for name, own in methods.items()}}
            for batch, methods in found.items()
        }
        described = {"base": options.base, "where": where, "torch": torch.__version__, "budget": options.budget}
        options.json.write_text(json.dumps({**described, "rounds": options.rounds, "batches": told}, indent=1))
    return found


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--base", default="toy", choices=BASES)
    parser.add_argument("--image-size", type=int, default=192, help="of the toy's pictures; 8 pixels a visual token")
    parser.add_argument("--layers", type=int, help="keep so many decoder layers (training a 7B needs memory)")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=method_names(), metavar="A,B")
    parser.add_argument("--budget", type=float, default=1 / 3, help="depth-weighted share of visual tokens")
    parser.add_argument("--batches", type=int, nargs="+", default=(1, 16))
    parser.add_argument("--text", type=int, nargs=2, default=(16, 140), metavar=("MIN", "MAX"), help="text tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; 0: as torch likes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=150, help="of the tables, in characters")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


def measure(track: Track, rivals: list[Rival], rounds: int) -> tuple[dict[str, Figures], dict[str, float]]:
    """Figures of every method but dense, which is the first; and dense's median milliseconds by phase.

    A phase that has no memory for some method is left out for all.
    """
    figures = {
        rival.name: Figures(rival.settings.to_dict(), rival.note, rival.beyond_kernel, rival.ranks_by_attention)
        for rival in rivals
    }
    phases = warm_up(track, rivals, figures)
    twins: dict[str, Rival] = {}
    for rival in rivals[1:]:
        track.run(rival, PREFILL)
        if (twin := twin_of(rival, track.routing())) is not None:
            twins[rival.name] = twin
            track.run(twin, PREFILL)
    ratios: dict[tuple[str, str], list[float]] = {}
    selection: dict[str, list[float]] = {name: [] for name in twins}
    dense_ms: dict[str, list[float]] = {phase: [] for phase in phases}
    for number in range(rounds):
        for phase in phases:
            spent: dict[str, float] = {}
            for rival in rivals if number % 2 == 0 else rivals[::-1]:
                spent[rival.name] = track.run(rival, phase)
                if phase == PREFILL and rival.name in twins:
                    by_place = track.run(twins[rival.name], phase)
                    selection[rival.name].append((spent[rival.name] - by_place) / spent[rival.name])
            dense_ms[phase].append(spent[DENSE])
            for name, milliseconds in spent.items():
                ratios.setdefault((name, phase), []).append(milliseconds / spent[DENSE])
    for (name, phase), seen in ratios.items():
        figures[name].time[phase] = median(seen)
    for name, shares in selection.items():
        figures[name].selection_time = median(shares)
    del figures[DENSE]
    return figures, {phase: median(seen) for phase, seen in dense_ms.items()}


def warm_up(track: Track, rivals: list[Rival], figures: dict[str, Figures]) -> list[str]:
    """Runs everything once and notes what it costs; the phases that there is memory for."""
    phases: list[str] = []
    for phase in PHASES:
        spent: dict[str, float] = {}
        try:
            for rival in rivals:
                track.run(rival, phase)
                spent[rival.name] = track.flops(rival, phase)
                if phase == PREFILL:
                    routing = track.routing()
                    costs = [routing.cost(sample, "true") for sample in range(track.batch)]
                    decoder = [routing.prefill_cost(sample, "swiglu") for sample in range(track.batch)]
                    own = figures[rival.name]
                    own.selection_macs = sum(cost.method for cost in costs) / sum(cost.total for cost in costs)
                    own.decoder_swiglu = sum(cost.total for cost in decoder) / sum(cost.dense for cost in decoder)
        except torch.OutOfMemoryError:
            print(f"batch {track.batch}: no memory for {phase}, which is left out", file=sys.stderr)
        if len(spent) == len(rivals):
            phases.append(phase)
            for name, flops in spent.items():
                figures[name].flops[phase] = flops / spent[DENSE]
        elif torch.cuda.is_available():
            track.model.zero_grad()
            torch.cuda.empty_cache()
    return phases


def print_table(console: Console, batch: int, figures: dict[str, Figures], dense_ms: dict[str, float]) -> None:
    """One line per method."""
    told = ", ".join(f"{phase} {milliseconds:.0f} ms" for phase, milliseconds in dense_ms.items())
    table = Table(title=f"batch {batch}; dense: {told}", title_justify="left", caption_justify="left")
    table.caption = "each cell: time over dense, FLOPs over dense, share of time saved per share of FLOPs saved"
    table.add_column("method", no_wrap=True)
    table.add_column("budget setting", no_wrap=True)
    for phase in dense_ms:
        table.add_column(phase, justify="right", no_wrap=True)
    table.add_column("decoder\nswiglu", justify="right")
    table.add_column("selection\nMACs", justify="right")
    table.add_column("\ntime", justify="right")
    table.add_column("beyond the kernel")
    for name, own in figures.items():
        dimension = find_method(name).budget
        turned = "" if dimension is None else f"{dimension.setting} {_short(own.settings[dimension.setting])}"
        cells = []
        for phase in dense_ms:
            saved = own.saved_per_flop(phase)
            cells.append(f"{own.time[phase]:.2f} {own.flops[phase]:.2f} {'  - ' if saved is None else f'{saved:.2f}'}")
        time = "-" if own.selection_time is None else f"{own.selection_time:.1%}"
        chosen = (f"{own.decoder_swiglu:.2f}", f"{own.selection_macs:.2%}", time, ", ".join(own.beyond_kernel))
        table.add_row(name, turned, *cells, *chosen)
    console.print(table)


def print_targets(console: Console, batch: int, figures: dict[str, Figures]) -> None:
    """What was measured beside its target, at the largest batch; nothing is asserted."""
    for name, own in figures.items():
        phase = max(own.time, key=own.over_flops)
        is_met = own.over_flops(phase) <= MOST_OVER_FLOPS
        told = f"batch {batch}, {name}: time ratio over FLOPs ratio at most {own.over_flops(phase):.3f} ({phase})"
        console.print(f"{'pass' if is_met else 'FAIL'}  {told} <= {MOST_OVER_FLOPS:.2f}")
    for name, own in figures.items():
        if own.ranks_by_attention and own.selection_time is not None:
            is_met = own.selection_time <= MOST_OF_SELECTION
            told = f"batch {batch}, {name}: selection {own.selection_time:.1%} of the prefill's time"
            console.print(f"{'pass' if is_met else 'FAIL'}  {told} <= {MOST_OF_SELECTION:.0%}")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
