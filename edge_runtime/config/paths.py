"""Where things lie: the default bundle, the shipped configurations, the state of a source."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from edge_runtime.system.secrets import redacted
from engines.errors import LvmError

_PACKAGE = Path(__file__).parents[1]


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
    """The state folder of a source when none is named: one for each source, so that memories never mix.

    Its name shows no credentials; a folder whose name did, from before, is still the source's.
    """
    before, now = (_folder_name(shown, source) for shown in (source, redacted(source)))
    return state_root() / (before if (state_root() / before).is_dir() else now)


def _folder_name(shown: str, source: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", shown.rsplit("/", 1)[-1]).strip("-")[:40] or "source"
    return f"{stem}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def cameras_root() -> Path:
    """Where the memories of several cameras lie, each in a folder of its name, when none is named."""
    return state_root() / "cameras"


def catalogue_root() -> Path:
    """The catalogue of products when none is named: every memory of this account is asked with it."""
    return state_root() / "catalogue"


def latest_state() -> Path:
    """The state folder under the root that was written last. Raises LvmError where there is none."""
    written = (
        file
        for root in (state_root(), cameras_root())
        for name in ("memory.state", "memory.journal.*")
        for file in root.glob(f"*/{name}")
    )
    files = sorted(written, key=lambda file: file.stat().st_mtime)
    if not files:
        raise LvmError(
            f"no memory found under {state_root()}; run lvm-edge first or name one with --state DIR"
        )
    return files[-1].parent
