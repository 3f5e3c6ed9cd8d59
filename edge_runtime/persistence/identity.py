"""Check that a state belongs to a bundle and a source."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edge_runtime.persistence.errors import StateError
from edge_runtime.persistence.header import Header
from edge_runtime.sources import is_live
from edge_runtime.sources.spec import identify_source
from edge_runtime.system.secrets import show_source
from edge_runtime.system.text import printable
from engines.bundle import Bundle


def model_digest(bundle: Bundle) -> str:
    """Return the identity of a model, as far as memories depend on it: weights and shapes.

    Neither the export counts, nor which tokens leave a full memory (`spread`): a memory that was filled by
    the other rule is continued all the same.
    """
    manifest = bundle.manifest
    network = manifest.network.model_dump_json(exclude={"spread"})
    weights = manifest.files[manifest.weights].sha256 if manifest.weights else bundle.digest
    return hashlib.sha256((weights + network).encode()).hexdigest()


def is_same_source(header: Header, *, source: str, camera: str | None = None) -> bool:
    """Return whether a state is of this source, or of the live camera with this configured name.

    A live camera at another address is still the same camera; another file under the same name is another
    video with other times.
    """
    if header.source_id == identify_source(source):
        return True
    named = camera is not None and header.camera == camera
    return named and header.live and is_live(source)


def check_owner(header: Header, *, model: str, source: str, folder: Path, camera: str | None = None) -> None:
    """Raise StateError unless a state is of this model, and of the source or camera (`is_same_source`)."""
    if header.model != model:
        raise StateError(
            f"state {folder} was made by another bundle ({_printable(header.bundle)}); use that one or "
            "another --state"
        )
    if not is_same_source(header, source=source, camera=camera):
        owner = _printable(header.source)
        if header.camera:
            owner += f" (camera {_printable(header.camera)})"
        raise StateError(
            f"state {folder} belongs to source {owner}, not {show_source(source)}; name another --state"
        )


def _printable(text: str) -> str:
    return printable(text)[:200]
