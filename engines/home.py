"""Find folders of the user who runs this, who may have no home: as in a container with a user of its own."""

from __future__ import annotations

from pathlib import Path


def home_folder(name: str, *, or_else: str) -> Path:
    """Return the folder `name` of the user's home; `or_else` where there is neither HOME nor an account."""
    try:
        return Path.home() / name
    except RuntimeError:
        return Path(or_else)
