"""The places where untrusted bytes come in. A target is opened by name; only its module is imported."""

from __future__ import annotations

import importlib
from pathlib import Path
from random import Random
from typing import Protocol

NAMES = ("annotations", "images", "video", "yaml", "bundle", "state", "query", "http")


class Target(Protocol):
    max_bytes: int
    """The largest case, in bytes."""

    def seeds(self) -> list[bytes]:
        """Return small valid inputs of every kind, the same every time; the corpus grows from them."""

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        """Return a variation that knows the format; None to leave it to libFuzzer."""

    def run(self, data: bytes) -> None:
        """Handle the case as the program does. Raises LvmError for refused input."""


def open_target(name: str, folder: Path) -> Target:
    """Open the target called `name`, which may write in `folder`."""
    target: Target = importlib.import_module(f"tools.fuzzing.targets.{name}").Target(folder)
    return target
