"""The state on disk, which survives power cuts: a snapshot and its journal, and the pair before.

    memory.state             the snapshot
    memory.state.previous    the snapshot before
    memory.journal.<id>      the steps since the snapshot of that id; one for each of the two
    memory.state.damaged     a snapshot that could not be read and was replaced, for a person to inspect
    lock                     held by the process that writes here

The arrays are exactly those of a `Version`, and a journal's steps are applied as live ones are, so a resumed
run continues bit for bit. Nothing is unpickled. docs/reliability-state.md has the reasons and measurements.

`store.py` writes the files of a running process and `load.py` reads them: `snapshot.py` with `header.py` and
`validation.py`, `journal.py` with `step_codec.py`. `filesystem.py` has the operations on the disk,
`encryption.py` the cipher before it.
"""

from edge_runtime.persistence.errors import Damaged, NewerState, StateError
from edge_runtime.persistence.header import MIN_FPS, Header
from edge_runtime.persistence.load import (
    check_owner,
    is_same_source,
    load_header,
    load_snapshot,
    model_digest,
)
from edge_runtime.persistence.snapshot import FILE, MAGIC, PREVIOUS, SaveStatus, Snapshot, to_arrays
from edge_runtime.persistence.store import StateFolder

__all__ = [
    "FILE",
    "MIN_FPS",
    "MAGIC",
    "PREVIOUS",
    "Damaged",
    "Header",
    "NewerState",
    "SaveStatus",
    "Snapshot",
    "StateError",
    "StateFolder",
    "to_arrays",
    "is_same_source",
    "check_owner",
    "load_header",
    "load_snapshot",
    "model_digest",
]
