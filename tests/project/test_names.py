"""Names in signatures say what a thing is, with the field's word, and not what happened to it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("engines", "edge_runtime", "export", "tools")
VAGUE = {
    "one", "ones", "told", "said", "brought", "wanted", "found", "taken", "shown", "kept", "most", "least",
    "dice", "look", "looks", "door", "doors", "whom",
}  # fmt: skip
ALLOWED = {
    "kept": "a key of manifests, of the log's settings and of gate limits",
    "most": "a key of the configuration (thumbnails)",
    "most_mb": "a key of the configuration (thumbnails)",
    "found": "a field of doctor's JSON",
    "ProductShown": "a name in the OpenAPI document",
    "NotFound": "HTTP's word",
    "not_found": "HTTP's word",
    "one_hot": "the field's word",
    "OneCamera": "an option for one camera, beside AnyCamera",
    "look_up": "the verb of dictionaries",
}


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def names_in_signatures(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of classes, their fields, functions, their arguments, and module constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                yield argument.lineno, argument.arg
        elif isinstance(node, ast.ClassDef):
            yield node.lineno, node.name
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    yield field.lineno, field.target.id
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            if isinstance(target, ast.Name):
                yield node.lineno, target.id


def test_a_vague_name_is_found():
    tree = ast.parse("class Told:\n    kept: int\ndef f(one, *, most): ...\nMOST_FPS = 3\n")
    assert [name for _, name in names_in_signatures(tree) if _words(name) & VAGUE] == [
        "Told", "kept", "one", "most", "MOST_FPS",
    ]  # fmt: skip


def test_signatures_use_nouns_and_verbs():
    vague = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, name in names_in_signatures(ast.parse(path.read_text()))
        if _words(name) & VAGUE and name.lstrip("_") not in ALLOWED
    ]
    assert vague == []
