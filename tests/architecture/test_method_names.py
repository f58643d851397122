"""Nothing outside a method's folder and the registry names a method: plans, sweeps, reports read its spec.

Recipes, documents and tests may. `dpn` is also what the product is called, in services, buckets and files.
"""

import ast

import pytest

from dpn_model.methods.registry import method_names

#: where "dpn" is the product's name: the command, its services, files it signs, its model type
PRODUCT = {
    "dpn_model/configuration.py",
    "platform/dpn_platform/cli/main.py",
    "platform/dpn_platform/config/tracking.py",
    "platform/dpn_platform/evaluation/lmms_eval_model.py",
    "platform/dpn_platform/reports/dynamic/figure.py",
    "platform/dpn_platform/reports/look/gallery.py",
    "platform/dpn_platform/reports/routing/figure.py",
    "platform/dpn_platform/reports/routing/over_time.py",
    "platform/dpn_platform/reports/study/picture.py",
    "platform/dpn_platform/services/endpoints.py",
    "platform/dpn_platform/services/plan.py",
    "platform/dpn_platform/tracking/memory.py",
}
#: fields of documents that happen to have a method's name
FIELDS = {
    "dense": {
        "platform/dpn_platform/cli/flops_account.py",
        "platform/dpn_platform/cli/flops_tables.py",
        "platform/dpn_platform/reports/study/export.py",
    }
}
#: reads what DPN's authors published, of DPN and of their static pyramid
AUTHORS = "dpn_model/weights/authors_pooling.py"
#: the public names of the package, and the arithmetic of a route by hand
DOORS = {"dpn_model/__init__.py", "platform/dpn_platform/cli/flops.py"}


def outside(path):
    return path.parts[:2] != ("dpn_model", "methods") and str(path) != AUTHORS


def docstrings(tree):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node)}


@pytest.mark.parametrize("name", method_names())
def test_no_text_is_a_methods_name(product_files, name):
    users = {
        str(path)
        for path, tree in product_files.items()
        if outside(path)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == name and id(node) not in docstrings(tree)
    }
    allowed = FIELDS.get(name, set()) | (PRODUCT if name == "dpn" else set())
    assert users - allowed == set()


@pytest.mark.parametrize("name", method_names())
def test_nobody_imports_a_methods_folder(product_files, imports_of, name):
    folder = f"dpn_model.methods.{name}"
    users = {
        str(path)
        for path in product_files
        if outside(path) and any(one == folder or one.startswith(f"{folder}.") for one in imports_of(path))
    }
    assert users - DOORS == set()


def test_the_registry_alone_lists_them(root):
    inside = [path for path in (root / "dpn_model/methods").glob("*.py") if path.name != "registry.py"]
    named = {path.name for path in inside for name in method_names() if f'"{name}"' in path.read_text()}
    assert named == set()
