"""Whose a state is."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edge_runtime.persistence.errors import StateError
from edge_runtime.persistence.header import Header
from edge_runtime.sources import is_live
from edge_runtime.system.text import printable
from engines.bundle import Bundle


def model_digest(bundle: Bundle) -> str:
    """Identity of what makes memories comparable: the weights and the shapes, not their export, and not which
    tokens leave a full memory (`spread`): what was kept otherwise is read and goes on all the same."""
    manifest = bundle.manifest
    network = manifest.network.model_dump_json(exclude={"spread"})
    weights = manifest.files[manifest.weights].sha256 if manifest.weights else bundle.digest
    return hashlib.sha256((weights + network).encode()).hexdigest()


def belongs(header: Header, *, source: str, camera: str | None = None) -> bool:
    """Whether it was made from this source, or by the live camera of this configured name.

    A live camera at another address is still the same camera; another file under the same name is not the
    same video, and its seconds are others.
    """
    if header.source == source:
        return True
    named = camera is not None and header.camera == camera
    return named and is_live(header.source) and is_live(source)


def check_belongs(
    header: Header, *, model: str, source: str, folder: Path, camera: str | None = None
) -> None:
    """Raises StateError unless the snapshot was made by this model, and `belongs` to source or camera."""
    if header.model != model:
        raise StateError(
            f"state {folder} was made by another bundle ({_shown(header.bundle)}); use that one or another "
            "--state"
        )
    if not belongs(header, source=source, camera=camera):
        whose = _shown(header.source) + (f" (camera {_shown(header.camera)})" if header.camera else "")
        raise StateError(f"state {folder} belongs to source {whose}, not {source}; name another --state")


def _shown(text: str) -> str:
    return printable(text)[:200]
