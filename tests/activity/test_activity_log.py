"""The activity log: bounded, private, not to be broken by a kill, a full disk or a damaged file."""

import dataclasses
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import edge_runtime.activity.log as module
from edge_runtime.activity.log import ActivityLog, forget_in_log
from edge_runtime.activity.row import Row, format_csv
from edge_runtime.activity.sqlite_store import FILE, LogFilter, open_file
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.persistence.encryption import Key
from engines.errors import LvmError

KEY, OTHER = Key(bytes(range(32))), Key(bytes(range(1, 33)))
ROOT = Path(__file__).parents[2]


def row(id: int, start: float, activity: str = "scan", doing: str = "scanning an item", **more) -> Row:
    return Row(id, "lane1", activity, doing, start, start + 5, 0.95, **{"ongoing": False, **more})


def fill(log: ActivityLog, count: int, **more) -> None:
    log.put([row(log.new_id(), 10.0 * i, **more) for i in range(count)])


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


@pytest.fixture
def opened():
    """Logs by their arguments, closed at the end."""
    logs: list[ActivityLog] = []

    def make(*arguments, **named) -> ActivityLog:
        logs.append(ActivityLog(*arguments, **named))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


@pytest.mark.parametrize("key", [None, KEY])
def test_rows_come_back_newest_first_by_words_and_time(tmp_path, opened, key):
    log = opened(tmp_path, key=key)
    fill(log, 3)
    log.put([row(log.new_id(), 100, "bag", "putting an item into a bag", alternatives=("unbag",))])
    found, more = log.find(LogFilter(limit=2))
    assert [one.start for one in found] == [100, 20] and more
    assert [one.activity for one in log.find(LogFilter(text="BAG item"))[0]] == ["bag"]
    assert [one.activity for one in log.find(LogFilter(text="unbag"))[0]] == ["bag"]
    assert log.find(LogFilter(text="bag scan")) == ([], False)
    assert log.find(LogFilter(text="100%_"))[0] == []
    assert [one.start for one in log.find(LogFilter(start=5, end=20))[0]] == [10]


@pytest.mark.parametrize("key", [None, KEY])
def test_a_row_is_written_again_in_its_place_and_after_a_restart_nothing_goes_on(tmp_path, opened, key):
    log = opened(tmp_path, key=key)
    first = row(log.new_id(), 10, ongoing=True)
    log.put([first])
    log.put([dataclasses.replace(first, end=40.0)])
    assert len(log) == 1 and log.find(LogFilter())[0][0].ongoing
    log.close()
    again = opened(tmp_path, key=key)
    (found,), _ = again.find(LogFilter())
    assert (found.end, found.ongoing) == (40.0, False)
    assert again.new_id() > first.id


def test_a_hundred_thousand_rows_stay_within_their_bounds(tmp_path, opened):
    log = opened(tmp_path, ActivitySettings(max_rows=5000))
    largest = 0
    for _ in range(50):
        fill(log, 2000)
        largest = max(
            largest, (tmp_path / FILE).stat().st_size + log.file.with_name(FILE + "-wal").stat().st_size
        )
    assert len(log) == 5000
    assert log.find(LogFilter(limit=1))[0][0].id == 100_000
    assert largest < 8_000_000, f"{largest} bytes"


def test_an_identifier_never_comes_twice_though_its_row_went(tmp_path, opened):
    log = opened(tmp_path)
    fill(log, 3)
    log.forget(0, 1000)
    log.close()
    assert opened(tmp_path).new_id() == 4


def test_old_rows_go(tmp_path, opened, monkeypatch):
    log = opened(tmp_path, ActivitySettings(keep_days=1))
    fill(log, 450)
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 2 * 86400)
    for _ in range(3):  # in steps
        log.put([row(log.new_id(), 9999)])
    assert [one.start for one in log.find(LogFilter())[0]] == [9999] * 3


@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_forgotten_is_in_no_file(tmp_path, opened, key):
    log = opened(tmp_path, key=key)
    for i in range(200):
        log.put([row(log.new_id(), 10.0 * i, doing=f"telltale {i:04}")])
    secret = [f"telltale {i:04}".encode() for i in range(50, 60)]
    if key is None:
        assert all(one in bytes_in(tmp_path) for one in secret)
    assert log.forget(500, 600) == 10
    assert not any(one in bytes_in(tmp_path) for one in secret)
    assert [one.start for one in log.find(LogFilter(start=480, end=620))[0]] == [610, 600, 490, 480]
    log.close()
    assert forget_in_log(tmp_path, 0, 490, key) == 49
    assert b"telltale 0001" not in bytes_in(tmp_path)


def test_a_row_that_reaches_into_what_is_forgotten_goes_whole(tmp_path, opened):
    log = opened(tmp_path)
    log.put([row(log.new_id(), 97)])  # to 102
    assert log.forget(101, 200) == 1 and len(log) == 0


def test_where_there_is_no_log_there_is_nothing_to_forget(tmp_path):
    assert forget_in_log(tmp_path, 0, 100) == 0 and not (tmp_path / FILE).exists()


def test_only_its_owner_may_read_it(tmp_path, opened):
    before = os.umask(0)
    try:
        fill(opened(tmp_path), 3)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes


def test_with_a_key_nothing_is_readable_not_even_what_was_there_before(tmp_path, opened):
    plain = opened(tmp_path)
    fill(plain, 300)
    plain.close()
    assert b"scanning an item" in bytes_in(tmp_path)
    sealed = opened(tmp_path, key=KEY)
    fill(sealed, 3)
    assert b"scan" not in bytes_in(tmp_path) and b"lane1" not in bytes_in(tmp_path)
    assert len(sealed.find(LogFilter(limit=1000))[0]) == 303


@pytest.mark.parametrize("key", [None, OTHER])
def test_a_log_of_another_key_is_left_alone_with_one_sentence(tmp_path, opened, caplog, key):
    first = opened(tmp_path, key=KEY)
    fill(first, 3)
    first.close()
    log = opened(tmp_path, key=key)
    fill(log, 2)
    log.close()
    assert "nothing is logged" in (log.problem or "") and len(caplog.records) == 1
    assert len(opened(tmp_path, key=KEY).find(LogFilter())[0]) == 3
    with pytest.raises(LvmError, match="cannot be forgotten|sealed with"):
        forget_in_log(tmp_path, 0, 100, key)


@pytest.mark.parametrize("harm", ["garbage", "cut", "inside", "empty header"])
def test_a_damaged_file_is_put_aside_and_a_new_one_begun(tmp_path, opened, caplog, harm):
    log = opened(tmp_path)
    fill(log, 2000)
    log.close()
    file = tmp_path / FILE
    data = bytearray(file.read_bytes())
    if harm == "garbage":
        data = bytearray(b"no database at all" * 500)
    elif harm == "cut":
        del data[len(data) // 2 :]
    elif harm == "inside":
        data[8192 : len(data) - 4096] = os.urandom(len(data) - 8192 - 4096)
    else:
        data[:100] = bytes(100)
    file.write_bytes(data)
    again = opened(tmp_path)
    fill(again, 3)
    assert len(again) == 3 and again.problem is None
    assert [one.getMessage().count("damaged") > 0 for one in caplog.records] == [True]
    aside = tmp_path / (FILE + ".damaged")
    assert aside.exists()
    again.forget(0, 1)  # nobody can tell whether it is in there
    assert not aside.exists()


def test_what_is_damaged_while_it_is_open_ends_nothing(tmp_path, opened):
    log = opened(tmp_path)
    fill(log, 2000)
    log._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    log._db.execute("PRAGMA shrink_memory").fetchall()
    data = bytearray(log.file.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    log.file.write_bytes(data)
    with sqlite3.connect(log.file) as other:  # as a change by another, so that nothing cached is trusted
        other.execute("PRAGMA user_version = 7")
    for _ in range(3):
        fill(log, 2)
    assert log.problem is None and log.find(LogFilter(limit=1))[0][0].id == 2006


def test_a_full_disk_costs_no_row_for_a_while(tmp_path, opened, caplog, monkeypatch):
    open_file(tmp_path / FILE).close()
    log = opened(tmp_path)
    pages = log._db.execute("PRAGMA page_count").fetchone()[0]
    log._db.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    monkeypatch.setattr(module, "MAX_WAITING", 300)
    for _ in range(4):
        fill(log, 100)
    assert "rows wait in memory" in (log.problem or "") and "full" in log.problem
    assert len(caplog.records) == 1, "said once"
    assert log.lost == 100 and len(log.find(LogFilter(limit=1000))[0]) == 300
    log._db.execute("PRAGMA max_page_count = 100000").fetchall()
    fill(log, 1)
    assert log.problem is None and len(log) == 301
    log.close()
    assert len(opened(tmp_path)) == 301


def test_a_folder_that_is_gone_is_a_sentence(tmp_path, opened):
    log = opened(tmp_path / "gone")
    fill(log, 2)
    assert "cannot be written" in (log.problem or "") and len(log.find(LogFilter())[0]) == 2
    (tmp_path / "gone").mkdir()
    fill(log, 1)
    assert log.problem is None and len(log) == 3


WRITER = """
import sys
from pathlib import Path
from edge_runtime.activity.log import ActivityLog
from edge_runtime.activity.row import Row
from edge_runtime.config.schema import ActivitySettings
log = ActivityLog(Path(sys.argv[1]), ActivitySettings(max_rows=40))
while True:
    one = log.new_id()
    log.put([Row(one, "lane1", "scan", "scanning " * 200, one, one + 1.0, 0.9)])
    print(one, flush=True)
"""


@pytest.mark.parametrize("rows", [1, 60, 150])
def test_a_kill_in_mid_write_loses_no_row_that_was_written(tmp_path, opened, rows):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(rows)]
    writer.send_signal(signal.SIGKILL)
    told += [int(line) for line in writer.communicate()[0].split()]
    log = opened(tmp_path, ActivitySettings(max_rows=40))
    found, _ = log.find(LogFilter(limit=1000))
    assert log.problem is None
    # It may have been killed after the commit and before it said so.
    assert found[0].id in (told[-1], told[-1] + 1)
    assert [one.id for one in found] == list(range(found[0].id, found[0].id - len(found), -1))
    # ... and between a row and the removal of the oldest, which the next row makes up for.
    assert min(40, found[0].id) <= len(found) <= min(41, found[0].id)
    assert not any(one.ongoing for one in found)


def test_a_row_as_json_and_csv(tmp_path):
    told = row(7, 10, epoch=1000.0, alternatives=("unbag", "weigh")).as_json()
    clock = {name: datetime.fromisoformat(told.pop(name)).timestamp() for name in ("clock_from", "clock_to")}
    assert clock == {"clock_from": 1010.0, "clock_to": 1015.0}
    assert told == {
        "id": 7, "camera": "lane1", "activity": "scan", "description": "scanning an item",
        "alternatives": ["unbag", "weigh"], "from": 10, "to": 15, "from_at": 1010.0, "to_at": 1015.0,
        "confidence": 0.95, "ongoing": False,
    }  # fmt: skip
    assert "clock_from" not in row(7, 10).as_json(), "a recording has no clock"
    head, line = format_csv([told | {"activity": "=1+1"}]).splitlines()
    assert head.startswith("id,camera,activity,description,alternatives,from,to,from_at")
    assert line == "7,lane1,'=1+1,scanning an item,unbag weigh,10,15,1010.0,1015.0,0.95,false"


def test_a_file_of_another_making_is_told_and_left(tmp_path, opened):
    db = open_file(tmp_path / FILE)
    db.execute("DROP TABLE rows")
    db.execute("CREATE TABLE rows (a TEXT)")
    db.commit()
    db.close()
    log = opened(tmp_path)
    fill(log, 1)
    assert "cannot be written" in (log.problem or "") and len(log.find(LogFilter())[0]) == 1


def test_rows_of_a_clock_that_ran_ahead_age_once_it_is_right(tmp_path, opened, monkeypatch):
    log, now, real = opened(tmp_path, ActivitySettings(keep_days=1)), [0.0], module.time.time
    monkeypatch.setattr(module.time, "time", lambda: real() + now[0])
    now[0] = 400 * 86400.0
    fill(log, 2)
    now[0] = 0.0  # it is set right
    log.put([row(log.new_id(), 777)])
    assert [one.start for one in log.find(LogFilter())[0]] == [777, 10, 0], "nothing goes at once"
    now[0] = 2 * 86400.0
    log.put([row(log.new_id(), 9999)])
    assert [one.start for one in log.find(LogFilter())[0]] == [9999]


def test_rows_of_a_clock_that_began_in_1970_are_kept_once_it_is_right(tmp_path, opened, monkeypatch):
    log, real = opened(tmp_path, ActivitySettings(keep_days=1)), module.time.time
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    fill(log, 2)
    now[0] = real()  # it is set right
    log.put([row(log.new_id(), 777)])
    assert [one.start for one in log.find(LogFilter())[0]] == [777, 10, 0], "nothing goes at once"
    now[0] = real() + 2 * 86400.0
    log.put([row(log.new_id(), 9999)])
    assert [one.start for one in log.find(LogFilter())[0]] == [9999]


def test_what_was_put_aside_goes_when_rows_of_its_age_would(tmp_path, opened, monkeypatch):
    (tmp_path / FILE).write_bytes(b"no database at all" * 500)
    os.utime(tmp_path / FILE, (0, 0))  # of long ago, but put aside now
    log, real = opened(tmp_path, ActivitySettings(keep_days=1)), module.time.time
    fill(log, 1)
    aside = tmp_path / (FILE + ".damaged")
    assert aside.exists()
    monkeypatch.setattr(module.time, "time", lambda: real() + 2 * 86400)
    fill(log, 1)
    assert not aside.exists()
