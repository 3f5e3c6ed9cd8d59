"""Text for people: what may be printed, and the nearest of known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from engines.errors import printable as printable


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of `known`, which is not empty, that looks most like `name`, letters of either case alike."""
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(one[:50].casefold(), one)
    close = difflib.get_close_matches(name[:50].casefold(), plain, 1, 0.0)
    return plain[close[0] if close else next(iter(plain))]
