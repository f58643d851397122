"""Finds a benchmark's questions, pictures and gold: in a published layout under one root, or where the user says."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dpn_platform.benchmarks.contract import LLAVA, PARQUET, Benchmark, Layout
from dpn_platform.benchmarks.files.file_content import suffix_of
from dpn_platform.benchmarks.files.sources import is_folder, parquet_parts
from dpn_platform.benchmarks.files.tables import TABLES
from dpn_platform.benchmarks.registry import nearest
from dpn_platform.config.errors import DpnError
from dpn_platform.storage import exists, join_uri, open_uri

_FILES = (".jsonl", ".json", *TABLES)


@dataclass(frozen=True)
class Wanted:
    """What the user said; None where the layout decides.

    Attributes:
        data: root of a published layout: LLaVA's `eval/` folder, or a Hugging Face data set.
        for_server: write the server's file and do not score, whatever the split.
    """

    data: str | None = None
    questions: str | None = None
    annotations: str | None = None
    images: str | None = None
    layout: str | None = None
    split: str | None = None
    for_server: bool = False


@dataclass(frozen=True)
class Sources:
    """Where things are, as URIs.

    Attributes:
        images: None where the questions hold their pictures.
        annotations: None where nothing will be scored.
        all_questions: whose every id the server wants.
    """

    layout: Layout
    questions: str
    images: str | None
    annotations: str | None
    all_questions: str


def find_sources(benchmark: Benchmark, wanted: Wanted) -> Sources:
    """The files of one evaluation; that they are there is checked.

    Raises:
        DpnError: unknown layout or split, nothing there, something that the layout needs was not given, or a server's
            file of a benchmark that has none.
    """
    if wanted.for_server and benchmark.submission is None:
        raise DpnError(f"{benchmark.name}: its answers are public, so nothing is submitted; leave out --submission")
    layout = _choose(benchmark, wanted)
    questions = _place(wanted.questions, wanted.data, layout.questions, layout)
    if questions is None:
        raise DpnError(
            f"{benchmark.name}: say where the questions are: --data ROOT ({layout.questions or 'parquet files'} in it) "
            "or --questions FILE"
        )
    if layout.name == PARQUET and is_folder(questions):
        parts = parquet_parts(questions, layout.split)
        questions = parts[0] if len(parts) == 1 else questions  # so that nobody takes another split's file
    images = _place(wanted.images, wanted.data, layout.images, layout) if layout.images or wanted.images else None
    if images is None and layout.images:
        raise DpnError(f"{benchmark.name}: --images is needed, the folder with the pictures ({layout.images})")
    annotations = None if wanted.for_server else _annotations(benchmark, wanted, layout, questions)
    named = {"--questions": questions, "--images": images, "--annotations": annotations}
    for option, uri in named.items():
        if uri is not None and not exists(uri):
            raise DpnError(f"{benchmark.name}: {option} {uri}: nothing is there")
    return Sources(layout, questions, images, annotations, _all_questions(wanted, layout, questions))


def _all_questions(wanted: Wanted, layout: Layout, questions: str) -> str:
    if wanted.data is None or wanted.questions is not None or not layout.all_questions:
        return questions
    found = join_uri(wanted.data, layout.all_questions)
    return found if exists(found) else questions


def _annotations(benchmark: Benchmark, wanted: Wanted, layout: Layout, questions: str) -> str | None:
    if wanted.annotations is not None:
        return open_uri(wanted.annotations).uri
    if layout.annotations is None:
        return None
    if layout.annotations == "":
        return questions
    if wanted.data is None:
        way_out = ", or --submission to write the server's file" if benchmark.submission else ""
        raise DpnError(f"{benchmark.name}: --annotations is needed, the gold answers ({layout.annotations}){way_out}")
    return join_uri(wanted.data, layout.annotations)


def _place(given: str | None, root: str | None, below: str, layout: Layout) -> str | None:
    if given is not None:
        return open_uri(given).uri
    if root is None:
        return None
    place = join_uri(root, below) if below else open_uri(root).uri
    # Data sets are kept with and without their folder of files.
    return open_uri(root).uri if layout.name == PARQUET and not exists(place) else place


def _choose(benchmark: Benchmark, wanted: Wanted) -> Layout:
    names = list(dict.fromkeys(layout.name for layout in benchmark.layouts))
    name = wanted.layout or _seen_layout(benchmark, wanted, names)
    if name not in names:
        raise DpnError(f"{benchmark.name}: layout '{name}' is unknown{nearest(name, names)}")
    of_name = [layout for layout in benchmark.layouts if layout.name == name]
    splits = [layout.split for layout in of_name]
    if wanted.split is None:
        return of_name[0]
    if wanted.split in splits:
        return of_name[splits.index(wanted.split)]
    if wanted.questions is None:
        raise DpnError(f"{benchmark.name}: split '{wanted.split}' is unknown{nearest(wanted.split, splits)}")
    return replace(of_name[0], split=wanted.split)  # a question file of the user's own


def _seen_layout(benchmark: Benchmark, wanted: Wanted, names: list[str]) -> str:
    """What the given places look like."""
    if len(names) == 1:
        return names[0]
    if wanted.questions is not None:
        return LLAVA if suffix_of(wanted.questions) in _FILES and LLAVA in names else PARQUET
    if wanted.data is not None:
        of_llava = (layout for layout in benchmark.layouts if layout.name == LLAVA)
        return LLAVA if any(exists(join_uri(wanted.data, layout.questions)) for layout in of_llava) else PARQUET
    return names[0]
