"""How much of the saved FLOPs becomes saved time: packed DPN against packed dense and against padding.

    python tests/benchmarks/packed_speed.py                                             # CPU, a model of 12 layers
    python tests/benchmarks/packed_speed.py --device cuda --base llava-1.5-7b --batch 32    # random weights

Needs torch and transformers only. All paths run interleaved in one process, on the same batch, weights and routes;
the table gives medians, and ratios of them. On a CPU the times are CPU times of one thread, which a busy machine
disturbs least.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

sys.path[:0] = [str(Path(__file__).parents[2])]

from tests.benchmarks.execution_paths import Case, packed, padded  # noqa: E402
from tests.benchmarks.host_copies import HostCopies  # noqa: E402
from tests.benchmarks.speed_case import BASES, make_case, measure_answers, true_flops_ratio  # noqa: E402

Run = Callable[[], torch.Tensor]


def main() -> None:
    """Measure and print."""
    options = parse_options()
    torch.manual_seed(options.seed)
    if options.threads:
        torch.set_num_threads(options.threads)
    case = make_case(options)
    paths: dict[str, Run] = {
        "packed dense": lambda: packed(case, {})[0],
        "packed DPN": lambda: packed(case, case.reducers)[0],
        "padded dense": lambda: padded(case, {}, shrinks=False),
        "DPN, padded to longest": lambda: padded(case, case.reducers, shrinks=True),
        "DPN, padded to full": lambda: padded(case, case.reducers, shrinks=False),
    }
    _, records = packed(case, case.reducers)
    ratio = true_flops_ratio(case, records)
    print_header(options, case, ratio)
    forward = time_paths(paths, options, backward=False)
    print_paths("forward", forward)
    whole = {} if options.forward_only else time_paths(paths, options, backward=True)
    print_paths("forward + backward", whole)
    print_targets(case, options, forward, whole, ratio)
    if options.answers:
        measure_answers(options, case)


def parse_options() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--base", default="toy", choices=BASES)
    parser.add_argument("--layers", type=int, help="keep so many decoder layers (training a 7B needs memory)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--text", type=int, nargs=2, default=(16, 140), metavar=("MIN", "MAX"), help="text tokens")
    parser.add_argument("--route", help="one route for all, such as 2x2,1x2,1x1; default: a mixture")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; 0: as torch likes")
    parser.add_argument("--forward-only", action="store_true")
    parser.add_argument("--answers", type=int, default=0, metavar="TOKENS", help="also time whole answers")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def clock(device: str) -> float:
    """Milliseconds."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter() * 1e3
    return time.process_time() * 1e3


def time_paths(paths: dict[str, Run], options: argparse.Namespace, *, backward: bool) -> dict[str, float]:
    """Median milliseconds of every path, interleaved; the first round is thrown away."""
    seen: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(options.repeats + 1):
        for name, run in paths.items():
            start = clock(options.device)
            if backward:
                run().backward()
            else:
                with torch.no_grad():
                    run()
            seen[name].append(clock(options.device) - start)
    return {name: median(times[1:]) for name, times in seen.items()}


def reducer_share(case: Case, options: argparse.Namespace) -> float:
    """Routing, index building and pooling, as a share of the forward pass they are part of."""
    inside = 0.0
    shares: list[float] = []

    def timed(reducer: torch.nn.Module) -> Callable[..., object]:
        def call(state: object) -> object:
            nonlocal inside
            start = clock(options.device)
            result = reducer(state)
            inside += clock(options.device) - start
            return result

        return call

    wrapped = {layer: timed(reducer) for layer, reducer in case.reducers.items()}
    for _ in range(options.repeats + 1):
        inside, start = 0.0, clock(options.device)
        with torch.no_grad():
            packed(case, wrapped)  # type: ignore[arg-type]
        shares.append(inside / (clock(options.device) - start))
    return median(shares[1:])


def print_header(options: argparse.Namespace, case: Case, ratio: float) -> None:
    """What was measured, and where."""
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    lengths = case.state.lengths
    print(f"{options.base} on {where}, torch {torch.__version__}, {next(case.model.parameters()).dtype}")
    print(
        f"{len(lengths)} samples of {min(lengths)} to {max(lengths)} tokens ({sum(lengths)} packed, "
        f"{len(lengths) * max(lengths)} padded); FLOPs of DPN / dense: {ratio:.3f} (`true`, decoder)"
    )


def print_paths(title: str, times: dict[str, float]) -> None:
    """One line per path."""
    if times:
        print(f"\n{title:<26}{'ms':>9}{'over packed dense':>20}")
    for name, spent in times.items():
        print(f"  {name:<24}{spent:>9.1f}{spent / times['packed dense']:>20.3f}")


def print_targets(
    case: Case, options: argparse.Namespace, forward: dict[str, float], whole: dict[str, float], ratio: float
) -> None:
    """The ratios that matter, beside their targets."""
    times, what = (whole, "forward + backward") if whole else (forward, "forward")
    with torch.no_grad(), HostCopies() as copies:
        packed(case, case.reducers)
    share = reducer_share(case, options)
    prefill = forward["packed dense"] / forward["packed DPN"] * ratio
    most = 0.03 if options.device == "cuda" else 0.08
    rows = (
        (f"packed DPN / packed dense, over the FLOPs ratio ({what})", "T1", "<=", 1.15,
         times["packed DPN"] / times["packed dense"] / ratio),
        (f"packed DPN / DPN padded to full ({what})", "T2", "<=", 0.60,
         times["packed DPN"] / times["DPN, padded to full"]),
        (f"packed dense / padded dense ({what})", "T3", "<=", 0.80, times["packed dense"] / times["padded dense"]),
        ("speed-up of the forward pass, share of the FLOPs limit", "T4", ">=", 0.90, prefill),
        ("device-to-host copies of a forward pass", "T9", "=", float(len(case.reducers)), float(copies.total)),
        ("routing, index building and pooling, share of the forward", "T10", "<=", most, share),
    )  # fmt: skip
    print(f"\n{'':<71}{'measured':>9}{'target':>10}")
    for name, number, sign, target, value in rows:
        is_met = value <= target if sign == "<=" else value >= target if sign == ">=" else value == target
        print(f"{number:<5}{name:<66}{value:>9.3f}{sign:>5} {target:<5g}{'' if is_met else 'missed'}")


if __name__ == "__main__":
    main()
