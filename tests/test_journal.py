"""Records of a journal on the pages of a disk: fewer are written, and the old ones are still read."""

from __future__ import annotations

from pathlib import Path

import pytest
from breaking_disk import BreakingDisk

from edge_runtime.state.journal import PAGE, Journal, scan
from edge_runtime.state.seal import seal_of

PLAIN = seal_of(None)
PATH = Path("/state/journal")


def written(disk: BreakingDisk, payloads: list[bytes], *, synced: bool) -> tuple[bytes, int]:
    """The journal's bytes, and how many pages were written: one for each that a sync finds touched."""
    journal = Journal(disk, PATH, PLAIN, snapshot="a", after="", frames=0)
    pages = 0
    for payload in payloads:
        began = journal.size
        journal.append(payload)
        data = disk.files()[PATH.name]
        first = next(at for at in range(began, len(data)) if data[at])  # an empty rest is no write
        pages += (len(data) - 1) // PAGE - first // PAGE + 1
        if synced:
            journal.sync()
    journal.close()
    return disk.files()[PATH.name], pages


def payloads(rng, sizes) -> list[bytes]:
    return [bytes([1]) + rng.bytes(size) for size in sizes]


def test_a_synced_record_touches_as_few_pages_as_its_size_needs(rng):
    records = payloads(rng, rng.integers(300, 14_000, 60))
    data, pages = written(BreakingDisk(), records, synced=True)
    assert pages == sum(-(-(len(one) + 20) // PAGE) for one in records)
    found = scan(data, PLAIN)
    assert found is not None and list(found.payloads) == records and found.size == len(data)
    # Behind one another they would touch one page more, most of the time.
    assert pages < 0.85 * sum((len(one) + 20) / PAGE + 1 for one in records)


def test_records_that_are_synced_together_lie_behind_one_another(rng):
    records = payloads(rng, [7000] * 20)
    data, _ = written(BreakingDisk(), records, synced=False)
    assert len(data) < sum(len(one) + 20 for one in records) + 200
    found = scan(data, PLAIN)
    assert found is not None and list(found.payloads) == records


@pytest.mark.parametrize("cut", [1, 21, 4000])
def test_what_is_torn_off_ends_the_journal_before_it(rng, cut):
    records = payloads(rng, [7000] * 5)
    data, _ = written(BreakingDisk(), records, synced=True)
    found = scan(data[:-cut], PLAIN)
    assert found is not None and list(found.payloads) == records[:4] and found.size < found.file_size
    # So does a page of zeros, as a disk shows that had grown the file and written nothing.
    found = scan(data[:-7021] + bytes(7021), PLAIN)
    assert found is not None and list(found.payloads) == records[:4]


def test_a_journal_of_the_first_format_is_read(rng, monkeypatch):
    monkeypatch.setattr("edge_runtime.state.journal._FORMAT", 1)
    monkeypatch.setattr(Journal, "_rest_of_page", lambda self, record: 0)
    records = payloads(rng, [7000] * 5)
    data, _ = written(BreakingDisk(), records, synced=True)
    found = scan(data, PLAIN)
    assert found is not None and list(found.payloads) == records
