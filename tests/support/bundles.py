"""The shipped bundle, copied so that a test may break it, with hashes put right where that is wanted."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.config.paths import default_bundle


def copied(folder: Path) -> Path:
    """A copy of the shipped bundle in `folder`."""
    return Path(shutil.copytree(default_bundle(), folder / "bundle"))


def edited(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The manifest after `change`; nothing else is put right."""
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    return bundle


def rewritten(bundle: Path, name: str, content: bytes) -> Path:
    """Another content for one file, with the hash that belongs to it."""
    (bundle / name).write_bytes(content)
    record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return edited(bundle, lambda data: data["files"].update({name: record}))
