"""The benchmarks by name; one is imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Mapping

from dpn_platform.benchmarks.contract import Benchmark
from dpn_platform.config.errors import DpnError

#: canonical name -> its file, in the order of the paper's table; those that ask a published data set come last
MODULES = {
    "vqav2": "vqav2",
    "gqa": "gqa.benchmark",
    "scienceqa-img": "scienceqa.benchmark",
    "textvqa": "textvqa",
    "vizwiz": "vizwiz",
    "mme": "mme.benchmark",
    "mmbench": "mmbench.benchmark",
    "mmbench-cn": "mmbench.chinese",
    "mm-vet": "mm_vet.benchmark",
    "mmmu": "mmmu.benchmark",
    "seed-image": "seed_image",
    "pope": "pope.benchmark",
    "heldout": "heldout",
    "detection": "objects.tasks.detection",
    "referring": "objects.tasks.referring",
    "regions": "objects.tasks.regions",
    "counting": "objects.tasks.counting",
}
_ALIASES = {
    "vqa": "vqav2",
    "scienceqa": "scienceqa-img",
    "sqa": "scienceqa-img",
    "sqai": "scienceqa-img",
    "vqat": "textvqa",
    "vizwizvqa": "vizwiz",
    "mmb": "mmbench",
    "mmbenchen": "mmbench",
    "mmbcn": "mmbench-cn",
    "seed": "seed-image",
    "seedi": "seed-image",
    "seedimg": "seed-image",
    "seedbench": "seed-image",
    "seedbenchimage": "seed-image",
    "det": "detection",
    "rec": "referring",
    "region": "regions",
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; case, `-`, `_` and blanks do not matter.

    Raises:
        DpnError: there is none; the line names the nearest and all.
    """
    spellings = _spellings()
    canonical = spellings.get(_plain(name))
    if canonical is None:
        near = difflib.get_close_matches(_plain(name), spellings, n=1, cutoff=0.5)
        hint = f" (did you mean '{spellings[near[0]]}'?)" if near else ""
        raise DpnError(f"benchmark '{name}' is unknown{hint}; allowed are {', '.join(MODULES)}")
    module = importlib.import_module(f"dpn_platform.benchmarks.{MODULES[canonical]}")
    found: Benchmark = module.BENCHMARK
    return found


def benchmark_in_name(name: str, *, whole: bool = False) -> str | None:
    """The benchmark that a file's name speaks of ("gqa", "dpn-7b_mm-vet"); None without one, or with several.

    Args:
        name: without folder and suffix.
        whole: the name is to be the benchmark's and nothing else.
    """
    spellings = _spellings()
    if whole or _plain(name) in spellings:
        return spellings.get(_plain(name))
    words = re.split(r"[^A-Za-z0-9]+", name)
    spans = [(start, end) for start in range(len(words)) for end in range(start + 1, len(words) + 1)]
    found = {span: spellings[text] for span in spans if (text := _plain("".join(words[slice(*span)]))) in spellings}
    # "mmbench-cn" holds "mmbench": the longest of overlapping names counts.
    longest = {
        name
        for (start, end), name in found.items()
        if not any(s <= start and end <= e and (s, e) != (start, end) for s, e in found)
    }
    return longest.pop() if len(longest) == 1 else None


def check_variant(benchmark: Benchmark, variant: str | None) -> str:
    """The variant to score with; None is the default.

    Raises:
        DpnError: the benchmark has no such variant.
    """
    allowed = list(benchmark.variants)
    if variant is None:
        return allowed[0]
    if variant not in allowed:
        raise DpnError(f"{benchmark.name}: variant '{variant}' is unknown{nearest(variant, allowed)}")
    return variant


def check_options(benchmark: Benchmark, options: Mapping[str, str]) -> None:
    """Refuses what a benchmark's scoring takes no notice of.

    Raises:
        DpnError: an option that it does not have.
    """
    for name in options:
        if name not in benchmark.options:
            has = nearest(name, benchmark.options) if benchmark.options else "; it has none"
            raise DpnError(f"{benchmark.name}: option '{name}' is unknown{has}")


def _spellings() -> dict[str, str]:
    return {_plain(canonical): canonical for canonical in MODULES} | _ALIASES


def nearest(value: str, allowed: Iterable[str]) -> str:
    """The end of a refusal: the nearest allowed value, and all."""
    names = list(allowed)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
    return (f" (did you mean '{near[0]}'?)" if near else "") + f"; allowed are {', '.join(names)}"


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
