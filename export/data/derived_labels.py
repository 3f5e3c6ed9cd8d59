"""Split an activity by what happened before it: bagging with and without an earlier scan.

Events of one activity that another activity (with any product) did not precede get a class of their own. No
frame of theirs shows the difference: only a memory can tell the two classes apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.errors import LvmError
from export.data.checks import read_data_folder
from export.data.files import EVENTS, QUERIES, write_classes, write_records
from export.data.records import EventRecord, NamedActivity


def split_activity(
    root: Path, activity: str, before: str, within: float, name: str, doing: str
) -> dict[str, int]:
    """Rewrite events and classes of the data folder `root` and return the number of events of both classes.

    Events of `activity` become the new class `name` unless `before`, with any product, went on in the last
    `within` seconds. Repeated after a kill, it completes the change. Raises LvmError if a name is unknown or
    exists already, or if there are questions about the old classes.
    """
    data = read_data_folder(root)
    known = [entry.name for entry in data.names.activities]
    events = [event for of_video in data.events.values() for event in of_video]
    last = data.names.activities[-1]
    if (last.name, last.doing) == (name, doing) and not any(event.activity == last.id for event in events):
        known.pop()  # an earlier call was killed between writing the two files
    if missing := [required for required in (activity, before) if required not in known]:
        raise LvmError(f"activities of {root} are {', '.join(known)}, got {missing[0]!r}: name one of them")
    if name in known:
        raise LvmError(f"a new name is needed, got {name!r}, which {root} has already: name another")
    if (root / QUERIES).exists():
        raise LvmError(f"{root / QUERIES} asks about the classes as they are: remove it and ask anew after")
    old, earlier, new = known.index(activity), known.index(before), len(known)
    rewritten = [
        event.model_copy(update={"activity": new})
        if event.activity == old and not _seen_before(event, events, earlier, within)
        else event
        for events in data.events.values()
        for event in events
    ]
    activities = (*data.names.activities[: len(known)], NamedActivity(id=new, name=name, doing=doing))
    write_classes(root, data.names.model_copy(update={"activities": activities}))
    write_records(root / EVENTS, rewritten)
    return {
        label: sum(event.activity == number for event in rewritten)
        for label, number in ((activity, old), (name, new))
    }


def _seen_before(event: EventRecord, events: Sequence[EventRecord], activity: int, within: float) -> bool:
    return any(
        other.activity == activity and other.t_s < event.t_s and other.t_e > event.t_s - within
        for other in events
    )
