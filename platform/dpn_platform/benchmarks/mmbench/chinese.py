"""MMBench-CN: the Chinese table, with the post-prompt in Chinese; scored as MMBench. Source: spec benchmarks 3."""

from __future__ import annotations

from dataclasses import replace

from dpn_platform.benchmarks.contract import HARNESS, REFERENCE, Inputs, Prompt, Report, Row
from dpn_platform.benchmarks.mmbench.benchmark import BENCHMARK as MMBENCH
from dpn_platform.benchmarks.mmbench.benchmark import layouts, question_text, score_table
from dpn_platform.benchmarks.prompts import LONG_LIMIT

#: "answer with the option's letter directly": LLaVA's words, and lmms-eval's
_LETTER_CN = {REFERENCE: "\n请直接回答选项字母。", HARNESS: "\n请直接使用所提供的选项字母作为答案回答。"}
LIMITS = {REFERENCE: LONG_LIMIT, HARNESS: 256}


def prompt(record: Row, variant: str) -> Prompt:
    """As MMBench's, closed in Chinese."""
    return Prompt(question_text(record, variant) + _LETTER_CN[variant], LIMITS[variant])


def score(inputs: Inputs) -> Report:
    """Circular accuracy of the Chinese table.

    Raises:
        DpnError: as MMBench.
    """
    return score_table(inputs, BENCHMARK)


BENCHMARK = replace(
    MMBENCH,
    name="mmbench-cn",
    limits=LIMITS,
    prompt=prompt,
    score=score,
    layouts=layouts("dev_cn_20231003", "mmbench_cn/mmbench_dev_cn_20231003.tsv", "cn"),
)
