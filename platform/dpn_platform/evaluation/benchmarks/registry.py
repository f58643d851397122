"""The benchmarks by name; one is imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable

from dpn_platform.config.errors import DpnError
from dpn_platform.evaluation.benchmarks.contract import Benchmark

#: canonical name -> its file, in the order of the paper's table
MODULES = {
    "vqav2": "vqav2",
    "gqa": "gqa",
    "scienceqa-img": "scienceqa",
    "textvqa": "textvqa",
    "vizwiz": "vizwiz",
    "mme": "mme",
    "mmbench": "mmbench",
    "mmbench-cn": "mmbench_cn",
    "mm-vet": "mm_vet",
    "mmmu": "mmmu",
    "seed-image": "seed_image",
    "pope": "pope",
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
}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of that name; case, `-`, `_` and blanks do not matter.

    Raises:
        DpnError: there is none; the line names the nearest and all.
    """
    spellings = {_plain(canonical): canonical for canonical in MODULES} | _ALIASES
    canonical = spellings.get(_plain(name))
    if canonical is None:
        near = difflib.get_close_matches(_plain(name), spellings, n=1, cutoff=0.5)
        hint = f" (did you mean '{spellings[near[0]]}'?)" if near else ""
        raise DpnError(f"benchmark '{name}' is unknown{hint}; allowed are {', '.join(MODULES)}")
    module = importlib.import_module(f"dpn_platform.evaluation.benchmarks.{MODULES[canonical]}")
    found: Benchmark = module.BENCHMARK
    return found


def check_variant(benchmark: Benchmark, variant: str | None) -> str:
    """The variant to score with; None is the default.

    Raises:
        DpnError: the benchmark has no such variant.
    """
    allowed = list(benchmark.variants)
    if variant is None:
        return allowed[0]
    if variant not in allowed:
        raise DpnError(f"{benchmark.name}: variant '{variant}' is unknown{_nearest(variant, allowed)}")
    return variant


def _nearest(value: str, allowed: Iterable[str]) -> str:
    names = list(allowed)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.4)
    return (f" (did you mean '{near[0]}'?)" if near else "") + f"; allowed are {', '.join(names)}"


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
