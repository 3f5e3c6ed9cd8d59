"""What is done after something else, told apart from what is done without it: bagging when none was scanned.

Events of one activity before which another one was not seen, whatever product it was done with, get a class
of their own. No frame of theirs shows the difference: who tells the two apart remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.errors import LvmError
from export.data.checks import read
from export.data.files import EVENTS, QUERIES, write_classes, write_lines
from export.data.records import EventRecord, NamedActivity


def tell_apart(
    root: Path, activity: str, before: str, within: float, name: str, doing: str
) -> dict[str, int]:
    """Rewrites events and classes of the data folder `root`: events of `activity` before which nothing of
    `before`, done with any product, went on in the last `within` seconds become `name`, a new class. How many
    events each of the two has then. Repeated after a kill it ends what it began. LvmError where a name is
    unknown or taken, or where questions were asked about the old classes.
    """
    data = read(root)
    known = [one.name for one in data.names.activities]
    events = [event for some in data.events.values() for event in some]
    last = data.names.activities[-1]
    if (last.name, last.doing) == (name, doing) and not any(one.activity == last.id for one in events):
        known.pop()  # it was killed between the two files
    if missing := [one for one in (activity, before) if one not in known]:
        raise LvmError(f"activities of {root} are {', '.join(known)}, got {missing[0]!r}: name one of them")
    if name in known:
        raise LvmError(f"a new name is needed, got {name!r}, which {root} has already: name another")
    if (root / QUERIES).exists():
        raise LvmError(f"{root / QUERIES} asks about the classes as they are: remove it and ask anew after")
    old, sought, new = known.index(activity), known.index(before), len(known)
    told = [
        event.model_copy(update={"activity": new})
        if event.activity == old and not _seen_before(event, events, sought, within)
        else event
        for events in data.events.values()
        for event in events
    ]
    activities = (*data.names.activities[: len(known)], NamedActivity(id=new, name=name, doing=doing))
    write_classes(root, data.names.model_copy(update={"activities": activities}))
    write_lines(root / EVENTS, told)
    return {
        one: sum(event.activity == number for event in told) for one, number in ((activity, old), (name, new))
    }


def _seen_before(event: EventRecord, events: Sequence[EventRecord], activity: int, within: float) -> bool:
    return any(
        one.activity == activity and one.t_s < event.t_s and one.t_e > event.t_s - within for one in events
    )
