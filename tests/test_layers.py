"""Who may import whom: engines nothing of the others, the device nothing of the workbench, neither torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WORKBENCH = {"torch", "torchvision", "timm", "onnx", "onnxscript", "nncf", "export", "tools", "tests"}
FORBIDDEN = {"engines": WORKBENCH | {"edge_runtime"}, "edge_runtime": WORKBENCH, "export": {"tools", "tests"}}


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of top packages, those within functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.split(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_imports_are_found_within_functions():
    assert list(imported(ast.parse("def f():\n    import a.b\n    from c.d import e\n"))) == ["a", "c"]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_package_imports_what_is_above_it(package):
    files = list((ROOT / package).rglob("*.py"))
    wrong = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imported(ast.parse(file.read_text()))
        if name in FORBIDDEN[package]
    }
    assert len(files) > 10 and not wrong
