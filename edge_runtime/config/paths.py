"""Default paths: the bundle, the shipped configurations, the state folders and the catalogue."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from edge_runtime.system.secrets import show_source
from engines.errors import LvmError
from engines.home import home_folder

_PACKAGE = Path(__file__).parents[1]


def default_bundle() -> Path:
    """Return the bundle that ships inside the package."""
    return _PACKAGE / "bundle"


def configs() -> Path:
    """Return the folder of the shipped YAML files: inside the package in a wheel, beside it in a checkout."""
    shipped = _PACKAGE / "configs"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "configs"


def state_root() -> Path:
    """Return $LVM_EDGE_STATE, or else lvm-edge in the XDG state folder; /var/lib where there is no home."""
    if "LVM_EDGE_STATE" in os.environ:
        return Path(os.environ["LVM_EDGE_STATE"])
    base = os.environ.get("XDG_STATE_HOME") or home_folder(".local/state", or_else="/var/lib")
    return Path(base) / "lvm-edge"


def default_state_folder(source: str) -> Path:
    """Return the state folder of a source where none is named: one for each source, so memories never mix.

    The folder's name holds no credentials. A folder from an older version, whose name may, is still used.
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", show_source(source).rsplit("/", 1)[-1]).strip("-")[:40] or "source"
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    now = state_root() / f"{stem}-{digest}"
    # What is shown of a source has changed over time, the digest never.
    older = sorted(folder for folder in state_root().glob(f"*-{digest}") if folder.is_dir())
    return now if now in older or not older else older[0]


def cameras_root() -> Path:
    """Return the default folder for several cameras; each has its state in a subfolder of its name."""
    return state_root() / "cameras"


def catalogue_root() -> Path:
    """Return the default catalogue of products, which all memories of this account share."""
    return state_root() / "catalogue"


def find_latest_state() -> Path:
    """Return the state folder that was written last. Raises LvmError if there is none."""
    state_files = (
        file
        for root in (state_root(), cameras_root())
        for name in ("memory.state", "memory.journal.*")
        for file in root.glob(f"*/{name}")
    )
    files = sorted(state_files, key=lambda file: file.stat().st_mtime)
    if not files:
        raise LvmError(
            f"no memory found under {state_root()}; run lvm-edge first or name one with --state DIR"
        )
    return files[-1].parent
