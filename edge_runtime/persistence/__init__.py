"""What survives the power switch: a snapshot, a journal of what came since, and the one before of each.

    memory.state             the snapshot
    memory.state.previous    the snapshot before
    memory.journal.<id>      the steps taken since the snapshot of that id; one for each of the two
    memory.state.damaged     a snapshot that could not be read and was replaced, for a person to look at
    lock                     held by the process that writes here

Arrays are exactly those of a `Version` and steps are taken again as they were taken, so a resumed run goes on
bit for bit. Nothing is unpickled. docs/reliability-state.md tells why it is so.

`snapshot.py` what a snapshot holds and its bytes, `header.py` and `checks.py` what of it is believed,
`records.py` a step as bytes, `journal.py` records in a file, `load.py` from files to a state, `folder.py`
from a running process to files, `disk.py` all that is asked of a file system, `seal.py` what stands between
bytes and disk.
"""

from edge_runtime.persistence.errors import Damaged, NewerState, StateError
from edge_runtime.persistence.header import LEAST_FPS, Header
from edge_runtime.persistence.identity import belongs, check_belongs, model_digest
from edge_runtime.persistence.load import load_header, load_snapshot
from edge_runtime.persistence.snapshot import FILE, MAGIC, PREVIOUS, Saving, Snapshot, arrays_of
from edge_runtime.persistence.store import StateFolder

__all__ = [
    "FILE",
    "LEAST_FPS",
    "MAGIC",
    "PREVIOUS",
    "Damaged",
    "Header",
    "NewerState",
    "Saving",
    "Snapshot",
    "StateError",
    "StateFolder",
    "arrays_of",
    "belongs",
    "check_belongs",
    "load_header",
    "load_snapshot",
    "model_digest",
]
