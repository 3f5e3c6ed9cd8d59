"""Read the version of lvm-edge: of the installed package, else of the checkout that it runs from."""

from __future__ import annotations

import importlib.metadata
import re
from functools import cache
from pathlib import Path

_VERSION_LINE = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)


@cache
def read_version() -> str:
    """Return `0.1.0`, `0.1.0+checkout` in a checkout that is not installed, else "unknown"."""
    try:
        return importlib.metadata.version("lvm-edge")
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    match = _VERSION_LINE.search(project)
    return f"{match[1]}+checkout" if match and 'name = "lvm-edge"' in project else "unknown"
