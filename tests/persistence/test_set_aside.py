"""A memory of another bundle waits, whatever happens while it is moved."""

import time

import pytest

from edge_runtime.persistence import FILE, PREVIOUS
from edge_runtime.persistence.filesystem import Disk
from edge_runtime.persistence.journal import PREFIX
from edge_runtime.persistence.set_aside import (
    EARLIER,
    WAITS_S,
    bring_back,
    list_set_aside,
    remove_set_aside,
    set_aside,
)

MODEL = "a" * 64
FILES = {FILE: b"newest", PREVIOUS: b"before", f"{PREFIX}1": b"steps"}


class BreakingDisk(Disk):
    """Breaks at the n-th move."""

    def __init__(self, moves: int) -> None:
        super().__init__()
        self.moves = moves

    def replace(self, path, target):
        self.moves -= 1
        if self.moves < 0:
            raise OSError("power cut")
        super().replace(path, target)


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "activities.sqlite").write_bytes(b"log")
    return tmp_path


def read(place):
    return {name: (place / name).read_bytes() for name in FILES if (place / name).exists()}


def test_all_files_of_a_memory_move_and_come_back(folder):
    place = set_aside(folder, MODEL, "/old bundle", Disk())
    assert read(place) == FILES and read(folder) == {} and (folder / "activities.sqlite").exists()
    assert list_set_aside(folder) == [{"state": str(place), "bundle": "/old bundle"}]
    assert place.stat().st_mode & 0o77 == 0
    assert bring_back(folder, MODEL, Disk())
    assert read(folder) == FILES and list_set_aside(folder) == []


@pytest.mark.parametrize("moves", range(3))
def test_a_cut_in_the_middle_is_made_up_for(folder, moves):
    with pytest.raises(OSError, match="power cut"):
        set_aside(folder, MODEL, "/old", BreakingDisk(moves))
    assert (folder / FILE).exists(), "until the last move the memory is where it was"
    assert read(set_aside(folder, MODEL, "/old", Disk())) == FILES


def test_nothing_comes_back_where_nothing_waits(folder):
    assert not bring_back(folder, MODEL, Disk()) and read(folder) == FILES
    assert list_set_aside(folder) == [] and remove_set_aside(folder) == 0


def test_a_month_of_waiting_is_enough(folder, monkeypatch):
    place = set_aside(folder, MODEL, "/old", Disk())
    assert remove_set_aside(folder, expired=True) == 0
    later = time.time() + WAITS_S + 60
    monkeypatch.setattr("edge_runtime.system.retention.time.time", lambda: later)
    assert remove_set_aside(folder, expired=True) == 1 and not place.exists()
    assert (folder / EARLIER).exists()
