"""Every place where bytes of strangers come in. A target is opened by name; only its module is imported."""

from __future__ import annotations

import importlib
from pathlib import Path
from random import Random
from typing import Protocol

NAMES = ("images", "video", "yaml", "bundle", "state", "query", "http")


class Target(Protocol):
    longest: int
    """Bytes of one case."""

    def seeds(self) -> list[bytes]:
        """Valid inputs of every kind, small; the corpus grows from them. The same ones every time."""

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        """A variation that knows the format; None to leave it to the bytes."""

    def run(self, data: bytes) -> None:
        """The whole way in. Raises LvmError for what is refused."""


def open_target(name: str, folder: Path) -> Target:
    """The target called `name`, which may write in `folder`."""
    target: Target = importlib.import_module(f"tools.fuzzing.targets.{name}").Target(folder)
    return target
