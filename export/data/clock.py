"""Times as people write them."""

from __future__ import annotations

import math


def seconds(text: str) -> float:
    """Seconds of `12.5`, `3:12` or `1:03:12.5`; ValueError says what a time looks like."""
    try:
        parts = [float(part) for part in text.strip().split(":")]
    except ValueError:
        parts = []
    whole = all(math.isfinite(part) and part >= 0.0 for part in parts)
    if not 1 <= len(parts) <= 3 or not whole or any(part >= 60.0 for part in parts[1:]):
        raise ValueError(f"a time must be seconds, mm:ss or hh:mm:ss, got {text!r}")
    total = 0.0
    for part in parts:
        total = 60.0 * total + part
    return total
