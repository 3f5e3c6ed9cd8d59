"""Folders of a cache that are made once."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from export.data.dir_cache import cached_dir


def writing(text, made):
    """A maker, which notes that it was asked."""

    def make(place: Path) -> None:
        made.append(text)
        (place / "said").write_text(text)

    return make


def names(cache):
    return sorted(path.name for path in cache.iterdir() if path.name != "making.lock")


def test_a_version_is_cached_dir(tmp_path):
    made = []
    places = {cached_dir(tmp_path / "cache", "thing", "1", writing("one", made)) for _ in range(2)}
    assert made == ["one"] and [(place / "said").read_text() for place in places] == ["one"]


def test_another_version_takes_the_place_of_the_last_and_of_nothing_else(tmp_path):
    made = []
    other = cached_dir(tmp_path, "other", "1", writing("other", made))
    first = cached_dir(tmp_path, "thing", "1", writing("one", made))
    with (first / "said").open() as opened:
        second = cached_dir(tmp_path, "thing", "2", writing("two", made))
        assert opened.read() == "one"  # a run that has it open reads on
    assert names(tmp_path) == sorted([other.name, second.name])


def test_what_fails_leaves_nothing(tmp_path):
    def fails(place):
        (place / "half").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached_dir(tmp_path, "thing", "1", fails)
    assert names(tmp_path) == []


def test_what_a_killed_run_left_goes_with_the_next_that_is_made(tmp_path):
    code = (
        "import os, pathlib, sys; from export.data.dir_cache import cached_dir; "
        "cached_dir(pathlib.Path(sys.argv[1]), 'thing', '1', "
        "lambda place: ((place / 'half').write_text('half'), os._exit(9)))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (half,) = names(tmp_path)
    place = cached_dir(tmp_path, "another", "1", writing("one", []))
    assert killed.returncode == 9 and names(tmp_path) == [place.name] != [half]


def test_two_at_once_make_it_once(tmp_path):
    made, going = [], threading.Event()

    def slow(place):
        going.set()
        threading.Event().wait(0.2)
        writing("slow", made)(place)

    first = threading.Thread(target=cached_dir, args=(tmp_path, "thing", "1", slow))
    first.start()
    going.wait()
    place = cached_dir(tmp_path, "thing", "1", writing("fast", made))
    first.join()
    assert made == ["slow"] and (place / "said").read_text() == "slow"
