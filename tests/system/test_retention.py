"""Files that are kept for a while go, whatever the clock did."""

import os
import time

import pytest

from edge_runtime.memory.version import empty_version
from edge_runtime.persistence import Header, Snapshot, StateFolder
from edge_runtime.persistence.store import DAMAGED, DAMAGED_KEPT_S
from edge_runtime.system.retention import is_expired
from tests.support.cameras import fake_engines

DAY = 86_400


@pytest.mark.parametrize("age, gone", [(DAY / 2, False), (2 * DAY, True), (-400 * DAY, False)], ids=str)
def test_a_file_is_too_old_by_its_time(tmp_path, age, gone):
    file = tmp_path / "a"
    file.write_bytes(b"")
    os.utime(file, (0, time.time() - age))
    assert is_expired(file, DAY) == gone


def test_a_time_in_the_future_counts_from_now(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"")
    os.utime(file, (0, time.time() + 400 * DAY))
    assert not is_expired(file, DAY)
    assert abs(file.stat().st_mtime - time.time()) < DAY / 2
    assert not is_expired(tmp_path / "none", DAY)


def test_a_time_before_this_program_was_counts_from_now(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"")
    os.utime(file, (0, 1000))
    assert not is_expired(file, DAY)
    assert abs(file.stat().st_mtime - time.time()) < DAY / 2


def test_while_the_clock_is_wrong_itself_no_time_is(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"")
    os.utime(file, (0, 1000))
    monkeypatch.setattr(time, "time", lambda: 2000.0)
    assert not is_expired(file, DAY) and file.stat().st_mtime == 1000
    assert is_expired(file, 500)


def test_a_damaged_snapshot_is_there_for_a_week(tmp_path):
    network = fake_engines().bundle.manifest.network
    header = Header(
        model="m", bundle="/b", source="demo", sampler="fifo", epoch=0, sample_fps=1, network=network
    )
    (tmp_path / "memory.state").write_bytes(b"torn")
    os.utime(tmp_path / "memory.state", (0, 0))  # of long ago, but put aside now
    with StateFolder(tmp_path) as folder:
        folder.save(Snapshot(header, empty_version(network)))
        damaged = tmp_path / DAMAGED
        assert damaged.read_bytes() == b"torn"
        folder.save(Snapshot(header, empty_version(network)))
        assert damaged.exists()
        os.utime(damaged, (0, time.time() - DAMAGED_KEPT_S - 60))
        folder.save(Snapshot(header, empty_version(network)))
        assert not damaged.exists()
