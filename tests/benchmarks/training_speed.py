"""Whole training steps: packed DPN, packed and padded dense, and DPN padded back to full length as the authors do.

    python tests/benchmarks/training_speed.py                                            # CPU, a model of 12 layers
    python tests/benchmarks/training_speed.py --device cuda --base llava-1.5-7b --batch 16   # as deep as fits

A step is pictures to tower to decoder to loss, backward, AdamW. Needs torch and transformers only. All paths run
interleaved in one process, on the same batch, weights and routes; the table gives medians, and ratios of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from dpn_model import RoutingReport  # noqa: E402
from dpn_platform.config.devices import known_peak_tflops  # noqa: E402
from dpn_platform.training.step_flops import Passes, head_flops, step_flops  # noqa: E402
from tests.benchmarks.execution_paths import Case, packed, padded  # noqa: E402
from tests.benchmarks.packed_speed import clock  # noqa: E402
from tests.benchmarks.speed_case import BASES, make_case, picture_inputs  # noqa: E402

DEPTHS = (32, 28, 24, 20, 16, 12, 8, 4)
Step = Callable[[], None]


def main() -> None:
    """Measure and print."""
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    case, steps = fitting(options)
    seen: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repeats + 1):
        for name, step in steps.items():
            start = clock(options.device)
            step()
            seen[name].append(clock(options.device) - start)
    times = {name: median(spent[1:]) for name, spent in seen.items()}
    spread = {name: (min(spent[1:]), max(spent[1:])) for name, spent in seen.items()}
    print_table(options, case, times, spread)
    print_targets(options, case, times)


def parse_options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--base", default="toy", choices=BASES)
    parser.add_argument("--layers", type=int, help="decoder layers; default on a GPU: as many as fit")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--text", type=int, nargs=2, default=(16, 140), metavar=("MIN", "MAX"), help="text tokens")
    parser.add_argument("--route", help="one route for all, such as 2x2,1x2,1x1; default: a mixture")
    parser.add_argument("--trains-vision", action="store_true", help="default: the tower is frozen")
    parser.add_argument("--checkpointing", action="store_true", help="recompute layers in the backward pass")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; 0: as torch likes")
    parser.add_argument("--peak-tflops", type=float, help="of the device, for MFU; default: measured ones")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def fitting(options: argparse.Namespace) -> tuple[Case, dict[str, Step]]:
    """The case and its steps, each run once; on a GPU with the largest depth that has memory for all of them."""
    depths = DEPTHS if options.device == "cuda" and options.layers is None else (options.layers,)
    for depth in depths:
        options.layers = depth
        try:
            case = training_case(options)
            steps = build_steps(options, case)
            for step in steps.values():
                step()
            return case, steps
        except torch.OutOfMemoryError:
            print(f"{depth} layers do not fit", file=sys.stderr)
        case = steps = None  # type: ignore[assignment]
        torch.cuda.empty_cache()
    raise SystemExit(f"not even {depths[-1]} layers fit; use a smaller --batch")


def training_case(options: argparse.Namespace) -> Case:
    """The speed case with a model that is trained."""
    torch.manual_seed(options.seed)
    case = make_case(options)
    case.model.train()
    case.model.model.vision_tower.requires_grad_(options.trains_vision)
    if options.checkpointing:
        case.model.gradient_checkpointing_enable({"use_reentrant": False})
        case.model.disable_input_require_grads()
    return case


def build_steps(options: argparse.Namespace, case: Case) -> dict[str, Step]:
    """One optimiser step of every path, on the same model."""
    trained = [parameter for parameter in case.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6)
    ids, mask, pixels = picture_inputs(case.model, options, torch.Generator().manual_seed(options.seed))

    def step_of(loss_of: Callable[[Case], torch.Tensor]) -> Step:
        def step() -> None:
            state = case.model.pack(ids, mask, pixels, None).state
            loss_of(replace(case, state=state)).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    return {
        "packed dense": step_of(lambda now: packed(now, {})[0]),
        "packed DPN": step_of(lambda now: packed(now, now.reducers)[0]),
        "padded dense": step_of(lambda now: padded(now, {}, shrinks=False)),
        "DPN, padded to full": step_of(lambda now: padded(now, now.reducers, shrinks=False)),
    }


def flops_of(options: argparse.Namespace, case: Case, *, is_routed: bool) -> float:
    """Operations of a step's samples, padding not counted: what a packed step runs and a padded one has to."""
    with torch.no_grad():
        _, records = packed(case, case.reducers if is_routed else {})
    visual = case.state.visual_tokens()
    text = tuple(length - tokens for length, tokens in zip(case.state.lengths, visual, strict=True))
    shape = case.model.model_shape
    num_images = tuple(sum(image.sample == row for image in case.state.images) for row in range(len(visual)))
    report = RoutingReport(tuple(records), text, visual, shape, num_images)
    passes = Passes.of(case.model, is_checkpointed=options.checkpointing)
    executed = step_flops([report], passes).executed
    assert executed is not None, "the base's tower has no account"
    return executed + head_flops(shape.decoder, len(visual) * case.answer_tokens, passes)


def print_table(
    options: argparse.Namespace, case: Case, times: dict[str, float], spread: dict[str, tuple[float, float]]
) -> None:
    """What was measured, and where; one line per path."""
    is_cuda = options.device == "cuda"
    where = torch.cuda.get_device_name() if is_cuda else f"CPU, {torch.get_num_threads()} thread(s), CPU time"
    layers, lengths = case.model.model_shape.decoder.num_layers, case.state.lengths
    print(f"{options.base}, {layers} layers, on {where}, torch {torch.__version__}, {case.model.lm_head.weight.dtype}")
    print(
        f"{len(lengths)} samples of {min(lengths)} to {max(lengths)} tokens ({sum(lengths)} packed, "
        f"{len(lengths) * max(lengths)} padded); median of {options.repeats}\n"
    )
    print(f"{'training step':<22}{'ms':>9}{'from':>9}{'to':>9}{'over packed dense':>19}{'samples/s':>11}")
    for name, spent in times.items():
        low, high = spread[name]
        rates = f"{spent / times['packed dense']:>19.3f}{1e3 * len(lengths) / spent:>11.1f}"
        print(f"  {name:<20}{spent:>9.1f}{low:>9.1f}{high:>9.1f}{rates}")


def print_targets(options: argparse.Namespace, case: Case, times: dict[str, float]) -> None:
    """Shares of the limit and of the peak, beside their targets."""
    dense, routed = (flops_of(options, case, is_routed=is_routed) for is_routed in (False, True))
    limit, speed_up = dense / routed, times["packed dense"] / times["packed DPN"]
    print(f"\nFLOPs of DPN / dense, tower and head included: {routed / dense:.3f}, a limit of {limit:.3f}")
    print(f"T7   speed-up over packed dense {speed_up:.3f}: {speed_up / limit:.3f} of the limit (>= 0.85)")
    print(f"     over padded dense {times['padded dense'] / times['packed DPN']:.3f}")
    print(f"     over DPN padded to full {times['DPN, padded to full'] / times['packed DPN']:.3f}")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    peak = options.peak_tflops or known_peak_tflops(name)
    if peak is None:
        print("T8   MFU: not told, the device's peak is not known (--peak-tflops)")
        return
    for path, flops in (("packed dense", dense), ("packed DPN", routed)):
        print(f"T8   MFU of {path}: {flops / (times[path] / 1e3) / (peak * 1e12):.3f} of {peak:g} TFLOP/s (>= 0.45)")


if __name__ == "__main__":
    main()
