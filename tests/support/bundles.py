"""Copy the shipped bundle, so that a test may break it, and correct its hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.config.paths import default_bundle

TINY = Path(__file__).parents[2] / "bundles" / "tiny"
"""The small bundle of the repository, which was made for the drawn world only."""


def copy_bundle(folder: Path) -> Path:
    """Copy the shipped bundle into `folder`."""
    return Path(shutil.copytree(default_bundle(), folder / "bundle"))


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Apply `change` to the manifest, without correcting anything else."""
    file = bundle / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    return bundle


def replace_file(bundle: Path, name: str, content: bytes) -> Path:
    """Write another content into a file, and its hash into the manifest."""
    (bundle / name).write_bytes(content)
    record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return edit_manifest(bundle, lambda data: data["files"].update({name: record}))
