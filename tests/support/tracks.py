"""Boxes of one video as arrays, for tests that have only records."""

from collections.abc import Iterable

from export.data.files import Tracks, TrackTable
from export.data.records import TrackRecord


def make_tracks(records: Iterable[TrackRecord]) -> Tracks:
    table = TrackTable()
    for record in records:
        table.add(record)
    return table.tracks()
