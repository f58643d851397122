"""Small rooms: files of at most 250 lines of code, functions of at most 50, no drawer for everything.

Docstrings, comments and empty lines don't count: explaining more must not be a reason to divide.
"""

import ast
import io
import tokenize

MAX_FILE_LINES = 250
MAX_FUNCTION_LINES = 50
MAX_JOB_LINES = 30
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
DRAWERS = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}


def python_files(root):
    for folder in ("dpn_model", "platform", "jobs", "tests", "infra"):
        yield from sorted((root / folder).rglob("*.py"))


def code_lines(text):
    """Numbers of the lines that hold code."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


def test_docstrings_comments_and_empty_lines_are_no_code():
    text = (
        '"""Doc."""\n\n# why\nx = """a\nb"""\ndef f():\n    """Two\n    lines."""\n    return (  # what\n        1)\n'
    )
    assert code_lines(text) == {4, 5, 6, 9, 10}


def test_files_are_short(root):
    lines = {path.relative_to(root): len(code_lines(path.read_text())) for path in python_files(root)}
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_functions_are_short(root, product_files):
    long = {}
    for path, tree in product_files.items():
        lines = code_lines((root / path).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = len(lines.intersection(range(node.lineno, node.end_lineno + 1)))
                if count > MAX_FUNCTION_LINES:
                    long[f"{path}:{node.lineno} {node.name}"] = count
    assert long == {}


def test_entry_scripts_are_thin(root):
    lines = {path.name: len(path.read_text().splitlines()) for path in (root / "jobs").glob("*.py")}
    assert set(lines) >= {"prepare_data.py", "train.py", "sweep.py", "evaluate.py", "report.py"}
    assert max(lines.values()) < MAX_JOB_LINES


def test_there_is_no_drawer_for_everything(root):
    assert [path for path in python_files(root) if path.name in DRAWERS] == []


def test_every_module_says_its_job(product_files):
    assert [str(path) for path, tree in product_files.items() if not ast.get_docstring(tree)] == []
