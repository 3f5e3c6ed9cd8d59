"""Records of a journal on the pages of a disk: fewer are written, and the old ones are still read."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.persistence.encryption import Seal
from edge_runtime.persistence.journal import PAGE, Journal, scan
from tests.support.breaking_disk import BreakingDisk

PLAIN = Seal()
PATH = Path("/state/journal")


def written(payloads: list[bytes], *, synced: bool) -> tuple[bytes, int]:
    """The journal's bytes, and how many pages were written: all that the bytes since the last sync touch."""
    disk, pages = BreakingDisk(), 0
    journal = Journal(disk, PATH, PLAIN, snapshot="a", after="", frames=0)
    for payload in payloads:
        began = journal.size
        journal.append(payload, whole_page=synced)
        if synced:
            journal.sync()
        pages += (journal.size - 1) // PAGE - began // PAGE + 1
    journal.close()
    return disk.files()[PATH.name], pages


def payloads(rng, sizes) -> list[bytes]:
    return [bytes([1]) + rng.bytes(size) for size in sizes]


def test_a_synced_record_touches_as_few_pages_as_its_size_needs(rng):
    records = payloads(rng, rng.integers(300, 14_000, 60))
    data, pages = written(records, synced=True)
    assert pages == sum(-(-(len(one) + 20) // PAGE) for one in records)
    found = scan(data, PLAIN)
    assert found is not None and list(found.payloads) == records and found.size == len(data)
    # Behind one another they would touch one page more, most of the time.
    assert pages < 0.85 * sum((len(one) + 20) / PAGE + 1 for one in records)


def test_records_that_are_synced_together_lie_behind_one_another(rng):
    records = payloads(rng, [7000] * 20)
    data, _ = written(records, synced=False)
    assert len(data) == PAGE + sum(len(one) + 20 for one in records)
    found = scan(data, PLAIN)
    assert found is not None and list(found.payloads) == records


@pytest.mark.parametrize("kept", [2 * PAGE - 1, PAGE, 7000, 1, 0])
def test_what_is_torn_off_ends_the_journal_before_it(rng, kept):
    """Of the last record, of two pages, so many bytes are left, or zeros behind them."""
    records = payloads(rng, [7500] * 5)
    data, _ = written(records, synced=True)
    torn = data[: -2 * PAGE + kept]
    whole = kept >= 7521  # what is away then are zeros
    for left in (torn, torn + bytes(2 * PAGE - kept)):
        found = scan(left, PLAIN)
        assert found is not None and list(found.payloads) == (records if whole else records[:4])
        assert (found.size == found.file_size) == (whole or left == torn and kept == 0)


def test_a_journal_of_the_first_format_is_read(rng, monkeypatch):
    monkeypatch.setattr("edge_runtime.persistence.journal._FORMAT", 1)
    monkeypatch.setattr("edge_runtime.persistence.journal.PAGE", 1)
    records = payloads(rng, [7000] * 5)
    data, _ = written(records, synced=True)
    monkeypatch.undo()
    assert len(data) < 5 * 7021 + 200
    found = scan(data, PLAIN)
    assert found is not None and list(found.payloads) == records and found.size == len(data)


def test_a_record_whose_length_is_wrong_is_left_out_although_its_bytes_are_there(rng):
    """The checksum covers what a record holds, not how long it says it is."""
    records = payloads(rng, [7000] * 3)
    data, _ = written(records, synced=False)
    at = len(data) - 20 - len(records[2])
    data = data[:at] + (len(records[2]) + 1).to_bytes(4, "little") + data[at + 4 :]
    found = scan(data, PLAIN)
    assert found is not None and list(found.payloads) == records[:2] and found.size == at
