"""Set a memory of another bundle aside, so that an upgrade never stops a camera.

    earlier/<model>/memory.state, memory.state.previous, memory.journal.<id>    as they were
    earlier/<model>/bundle                                                      path of its bundle

Tokens of one network mean nothing to another. So the memory waits where its own bundle can read it (`lvm-edge
ask --state STATE/earlier/<model> --bundle OLD`), and goes on if that bundle runs again. Forgetting anything
removes it as a whole, and so does a month of waiting.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_runtime.persistence.filesystem import FOLDER_MODE, Disk, write_private
from edge_runtime.persistence.journal import PREFIX
from edge_runtime.persistence.snapshot import FILE, PREVIOUS
from edge_runtime.system.retention import is_expired
from engines.fsync import fsync_folder

EARLIER = "earlier"
WAITS_S = 31 * 86400.0
_BUNDLE = "bundle"
_NAME = 12
"""Characters of a model's digest that name its folder."""


def set_aside(folder: Path, model: str, bundle: str, disk: Disk) -> Path:
    """Move the memory in `folder`, of `model` and made with `bundle`, below `earlier`; returns where it is.

    A kill in the middle is made up for by the next call. Raises OSError.
    """
    place = folder / EARLIER / model[:_NAME]
    place.mkdir(parents=True, mode=FOLDER_MODE, exist_ok=True)
    write_private(place / _BUNDLE, bundle.encode())
    _move(folder, place, disk)
    return place


def bring_back(folder: Path, model: str, disk: Disk) -> bool:
    """Move the memory of `model` back from `earlier`, if there is one. Raises OSError."""
    place = folder / EARLIER / model[:_NAME]
    if not (place / FILE).is_file():
        return False
    _move(place, folder, disk)
    shutil.rmtree(place)
    return True


def list_set_aside(folder: Path) -> list[dict[str, str]]:
    """Return the memories of earlier bundles, each with its folder and the path of its bundle."""
    found = []
    for name in Disk().names(folder / EARLIER):
        place = folder / EARLIER / name
        if (place / _BUNDLE).is_file():
            bundle = (place / _BUNDLE).read_text(encoding="utf-8", errors="replace")
            found.append({"state": str(place), "bundle": bundle})
    return found


def remove_set_aside(folder: Path, *, expired: bool = False) -> int:
    """Remove the memories of earlier bundles; with `expired` only those that waited for 31 days. Returns how
    many."""
    gone = [
        Path(memory["state"])
        for memory in list_set_aside(folder)
        if not expired or is_expired(Path(memory["state"]) / _BUNDLE, WAITS_S)
    ]
    for place in gone:
        shutil.rmtree(place)
    return len(gone)


def _move(source: Path, target: Path, disk: Disk) -> None:
    """Move a memory's files; the newest snapshot last, so that until then the memory is the source's."""
    journals = [name for name in disk.names(source) if name.startswith(PREFIX)]
    for name in (*journals, PREVIOUS, FILE):
        if (source / name).is_file():
            disk.replace(source / name, target / name)
    fsync_folder(target)
    fsync_folder(source)
