"""docs/troubleshooting.md quotes what the program says, letter by letter."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
NOT_OURS = {"…: Extra inputs are not permitted"}
"""Of pydantic, as the settings' reader passes it on."""


def _said(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sd]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(one.value if isinstance(one, ast.Constant) else "…" for one in node.values)
    return None


@pytest.fixture(scope="module")
def sentences() -> str:
    files = [file for house in ("engines", "edge_runtime") for file in (ROOT / house).rglob("*.py")]
    found = [
        said for file in files for node in ast.walk(ast.parse(file.read_text())) if (said := _said(node))
    ]
    return "\n".join(re.sub(r"…+", "…", one) for one in found)


QUOTED = [one.replace("\\|", "|") for one in re.findall(r"^\| `([^`]+)` \|", PAGE, re.M)]


def test_there_are_sentences_to_look_for():
    assert len(QUOTED) >= 20 and len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("quoted", sorted(set(QUOTED) - NOT_OURS))
def test_the_program_says_it(quoted, sentences):
    assert quoted in sentences
