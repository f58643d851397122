"""How often an alias moves without a real gain, and how soon with one of two points. Not collected; run by hand:

python -m tests.benchmarks.promotion_simulation [HISTORIES]
"""

import math
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from tests.sweeps.promotion_nights import Nights

#: accuracy of a holder like dense, and how much of what two points get wrong is the same
KINDS = [(0.60, 0.7), (0.60, 0.9), (0.80, 0.7), (0.80, 0.9), (0.95, 0.7), (0.95, 0.9)]
#: how many points the first holder is the best of, and how far they truly lie apart
STARTS = [(1, 0.0), (12, 0.0), (12, 0.02), (40, 0.0)]
SINCE = (1, 5, 20)


def upper(moved, histories):
    """Upper end of Clopper and Pearson's one-sided 95% interval of a share."""
    low, high = moved / histories, 1.0
    while high - low > 1e-5:
        share = (low + high) / 2
        tail = sum(math.comb(histories, k) * share**k * (1 - share) ** (histories - k) for k in range(moved + 1))
        low, high = (share, high) if tail > 0.05 else (low, share)
    return high


def nights(simulated, histories):
    """The night of each history's first move, histories dealt to the processes."""
    parts = 10
    with ProcessPoolExecutor() as pool:
        found = pool.map(simulated.moves, [histories // parts] * parts, range(parts))
        return [night for part in found for night in part]


def without_gain(histories):
    """200 nights, four new points each, all as good as the first holder truly is."""
    print("no gain, 200 nights: accuracy, differing questions, first points (spread), histories that move")
    for accuracy, shared in KINDS[::2]:
        for start, spread in STARTS:
            simulated = Nights(accuracy, shared, start=start, spread=spread)
            found = nights(simulated, histories)
            moved = sum(night is not None for night in found)
            told = f"{accuracy:.2f} {100 * simulated.discordance():5.1f}%  {start:2d} ({100 * spread:.0f})"
            print(
                f"{told}  {100 * moved / len(found):4.1f}% (at most {100 * upper(moved, len(found)):.1f}%)", flush=True
            )


def with_gain(histories):
    """From some night on, one of each night's four new points truly gains two points."""
    print(
        "a gain of 2 points from a night on: accuracy, differing questions, that night, found by its 1st to 5th night"
    )
    for accuracy, shared in KINDS:
        for since in SINCE:
            simulated = Nights(accuracy, shared, gain=0.02, since=since)
            found = nights(replace(simulated, nights=since + 4), histories)
            shares = [sum(n is not None and n < since + k for n in found) / len(found) for k in range(1, 6)]
            told = " ".join(f"{100 * share:3.0f}%" for share in shares)
            print(f"{accuracy:.2f} {100 * simulated.discordance():5.1f}%  {since:2d}  {told}", flush=True)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    without_gain(count)
    with_gain(count)
