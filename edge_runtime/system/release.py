"""Which lvm-edge this is: of the installed package, else of the checkout that it runs from."""

from __future__ import annotations

import importlib.metadata
import re
from functools import cache
from pathlib import Path

_WRITTEN = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)


@cache
def version_of() -> str:
    """As `0.1.0`; `0.1.0+checkout` where it is run from a checkout, "unknown" where nothing tells."""
    try:
        return importlib.metadata.version("lvm-edge")
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = _WRITTEN.search(project)
    return f"{found[1]}+checkout" if found and 'name = "lvm-edge"' in project else "unknown"
