"""Small rooms: files of at most 250 lines, functions of at most 50, no drawer for everything."""

import ast

MAX_FILE_LINES = 250
MAX_FUNCTION_LINES = 50
MAX_JOB_LINES = 30
DRAWERS = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}


def python_files(root):
    for folder in ("dpn_model", "platform", "jobs", "tests", "infra"):
        yield from sorted((root / folder).rglob("*.py"))


def test_files_are_short(root):
    lines = {path.relative_to(root): len(path.read_text().splitlines()) for path in python_files(root)}
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_functions_are_short(product_files):
    long = {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path, tree in product_files.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_entry_scripts_are_thin(root):
    lines = {path.name: len(path.read_text().splitlines()) for path in (root / "jobs").glob("*.py")}
    assert set(lines) >= {"prepare_data.py", "train.py", "sweep.py", "evaluate.py", "report.py"}
    assert max(lines.values()) < MAX_JOB_LINES


def test_there_is_no_drawer_for_everything(root):
    assert [path for path in python_files(root) if path.name in DRAWERS] == []


def test_every_module_says_its_job(product_files):
    assert [str(path) for path, tree in product_files.items() if not ast.get_docstring(tree)] == []
