"""Where things lie: the default bundle, the shipped configurations, the state of a source."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from engines.errors import LvmError

_PACKAGE = Path(__file__).parent


def default_bundle() -> Path:
    """The bundle that ships inside the package."""
    return _PACKAGE / "bundle"


def configs() -> Path:
    """Shipped YAML files: inside an installed wheel, beside the packages in a checkout."""
    shipped = _PACKAGE / "configs"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "configs"


def state_root() -> Path:
    """LVM_EDGE_STATE, else lvm-edge in the XDG state folder."""
    if "LVM_EDGE_STATE" in os.environ:
        return Path(os.environ["LVM_EDGE_STATE"])
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "lvm-edge"


def state_of(source: str) -> Path:
    """The state folder of a source when none is named: one for each source, so that memories never mix."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", source.rsplit("/", 1)[-1]).strip("-")[:40] or "source"
    return state_root() / f"{stem}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def latest_state() -> Path:
    """The state folder under the root that was written last. Raises LvmError where there is none."""
    files = sorted(state_root().glob("*/memory.state"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise LvmError(
            f"no memory found under {state_root()}; run lvm-edge first or name one with --state DIR"
        )
    return files[-1].parent
