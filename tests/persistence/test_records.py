"""A step comes back from its bytes as it was, and a journal ends where its bytes are not those written."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.ingest.pipeline import round_to_half
from edge_runtime.memory.version import ClipUpdate, Step
from edge_runtime.persistence import NewerState
from edge_runtime.persistence.encryption import Seal
from edge_runtime.persistence.journal import Journal, scan
from edge_runtime.persistence.step_codec import Record, RecordCoder
from tests.support.breaking_disk import BreakingDisk

WIDTH = 6

PLAIN = Seal()


def _record(rng: np.random.Generator, frames: int, *, ends_clip: bool, thinned: bool) -> Record:
    scale = 10.0 ** rng.integers(-4, 5)  # from what is subnormal in half precision to its largest numbers
    features = round_to_half(
        (rng.normal(size=(frames, 49, WIDTH)) * scale / 3).clip(-65504, 65504).astype(np.float32)
    )
    features[rng.random((frames, 49)) < 0.3] = 0
    features[0, 0] = -0.0
    kept = np.sort(rng.choice(980, 30, replace=False)) if thinned else None
    update = ClipUpdate(kept, rng.normal(size=50).astype(np.float32)) if ends_clip else None
    times = np.sort(rng.uniform(0, 1e9, frames)).tolist()
    step = Step(features, rng.random((frames, 49), np.float32), times, float(rng.random()), update)
    return Record(step, int(rng.integers(2**40)), int(rng.integers(2**40)))


def _equal(one: Record, two: Record) -> bool:
    a, b = one.step, two.step
    updates = (a.clip_update is None) == (b.clip_update is None)
    if a.clip_update is not None and b.clip_update is not None:
        both = (a.clip_update.candidates is None) == (b.clip_update.candidates is None)
        same = a.clip_update.candidates is None or np.array_equal(
            a.clip_update.candidates, b.clip_update.candidates
        )
        updates = both and same and a.clip_update.scores.tobytes() == b.clip_update.scores.tobytes()
    return (
        a.features.tobytes() == b.features.tobytes()
        and a.residual.tobytes() == b.residual.tobytes()
        and (tuple(a.times), a.period, one.seen, one.dropped)
        == (tuple(b.times), b.period, two.seen, two.dropped)
        and updates
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.lists(st.integers(1, 8), min_size=1, max_size=4), st.booleans(), st.booleans()
)
def test_records_come_back_to_the_last_bit(seed, sizes, ends_clip, thinned):
    rng = np.random.default_rng(seed)
    writer, reader = RecordCoder(WIDTH), RecordCoder(WIDTH)
    for frames in sizes:
        record = _record(rng, frames, ends_clip=ends_clip, thinned=thinned)
        assert _equal(reader.decode(writer.encode(record)), record)


def test_a_still_picture_costs_next_to_nothing(rng):
    features = round_to_half(rng.normal(size=(1, 49, 128)).astype(np.float32))
    coder = RecordCoder(128)
    sizes = [
        len(coder.encode(Record(Step(features, np.zeros((1, 49), np.float32), [t], 1.0)))) for t in (0.0, 1.0)
    ]
    assert sizes[1] < 500 < sizes[0]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bytes_that_no_coder_wrote_are_a_value_error_and_nothing_else(data):
    sound = RecordCoder(WIDTH).encode(_record(np.random.default_rng(1), 2, ends_clip=True, thinned=True))
    damaged = bytearray(sound[: data.draw(st.integers(0, len(sound)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        RecordCoder(WIDTH).decode(bytes(damaged))
    except ValueError:
        pass


def _journal(payloads: list[bytes], seal=PLAIN, snapshot: str = "ab") -> bytes:
    disk = BreakingDisk()
    journal = Journal(disk, Path("j"), seal, snapshot=snapshot, after="", frames=0)
    for payload in payloads:
        journal.append(payload)
    return disk.files()["j"]


def test_a_journal_cut_anywhere_holds_the_records_before_the_cut():
    whole = _journal([b"one", b"", b"three" * 20])
    found = [scan(whole[:end], PLAIN) for end in range(len(whole) + 1)]
    counts = [-1 if one is None else len(one.payloads) for one in found]
    assert counts == sorted(counts) and set(counts) == {-1, 0, 1, 2, 3}
    assert found[-1].payloads == (b"one", b"", b"three" * 20) and found[-1].size == len(whole)


def test_records_of_another_journal_do_not_continue_this_one():
    one, two = _journal([b"1" * 30, b"2" * 30]), _journal([b"a" * 30, b"b" * 30], snapshot="cd")
    spliced = one[: len(one) - 50] + two[len(two) - 50 :]
    assert scan(two, PLAIN).payloads[-1] == b"b" * 30 and scan(spliced, PLAIN).payloads == (b"1" * 30,)


class _Rot13:
    """A seal that anybody can break, to see that everything passes it."""

    read_unsealed = False

    def seal(self, data: bytes, *, role: str, owner: str = "") -> bytes:
        return bytes((byte + 13) % 256 for byte in data) + b"!"

    def open(self, data: bytes, *, role: str, owner: str = "") -> bytes:
        return bytes((byte - 13) % 256 for byte in data[:-1])


def test_nothing_of_a_record_is_on_the_disk_unsealed():
    data = _journal([b"a face", b"a name"], _Rot13())
    assert b"a face" not in data and b"snapshot" not in data
    assert scan(data, _Rot13()).payloads == (b"a face", b"a name")


def test_a_journal_of_a_later_version_is_refused(monkeypatch):
    monkeypatch.setattr("edge_runtime.persistence.journal._FORMAT", 99)
    data = _journal([b"x"])
    monkeypatch.undo()
    with pytest.raises(NewerState, match="newer lvm-edge"):
        scan(data, PLAIN)
