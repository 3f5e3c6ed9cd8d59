"""Make text printable, and find the nearest of known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from engines.errors import printable as printable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the name among `known`, which is not empty, that is most similar to `name`, ignoring case."""
    plain: dict[str, str] = {}
    for candidate in known:
        plain.setdefault(candidate[:50].casefold(), candidate)
    close = difflib.get_close_matches(name[:50].casefold(), plain, 1, 0.0)
    return plain[close[0] if close else next(iter(plain))]
