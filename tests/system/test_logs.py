"""The log is bounded, private, without secrets, and can be made to forget."""

import json
import logging
import os
import subprocess
import sys
import tracemalloc
from datetime import datetime, timezone
from pathlib import Path

import pytest

from edge_runtime.query.timestamps import moment
from edge_runtime.system.logs import (
    MAX_RECORD_CHARS,
    BoundedFile,
    LogSettings,
    forget_lines,
    log_file,
    set_up_logging,
)
from engines.errors import LvmError

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
URL = f"rtsp://admin:{SECRET}@10.0.0.5/live?token={SECRET}"
log = logging.getLogger("edge_runtime.test")


@pytest.fixture(autouse=True)
def as_before():
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [handler for handler in root.handlers if getattr(handler, "of_lvm_edge", False)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def _all(file: Path) -> list[Path]:
    return sorted(file.parent.glob(file.name + "*"))


def test_no_flood_makes_the_files_larger_than_was_said(tmp_path):
    settings = LogSettings(file=tmp_path / "edge.log", max_mb=0.01, kept=2)
    set_up_logging(settings)
    for number in range(1000):
        log.warning("message %d %s", number, "x" * 50)
    files = _all(settings.file)
    assert [path.name for path in files] == ["edge.log", "edge.log.1", "edge.log.2"]
    assert sum(path.stat().st_size for path in files) <= settings.max_bytes() == 30_000
    assert "message 999" in settings.file.read_text()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


@pytest.mark.parametrize("json_lines", [False, True])
def test_no_secret_is_logged_not_even_in_a_traceback(tmp_path, json_lines, capsys):
    file = tmp_path / "edge.log"
    set_up_logging(LogSettings(file=file, json_lines=json_lines))
    log.warning("cannot open %s", URL)
    try:
        raise OSError(f"no answer from {URL}")
    except OSError:
        log.exception("failed")
    text = file.read_text()
    assert SECRET not in text and SECRET not in capsys.readouterr().err
    assert "rtsp://***@10.0.0.5/live" in text and "Traceback" in text


def test_json_lines_are_one_object_a_record(tmp_path):
    file = tmp_path / "edge.log"
    set_up_logging(LogSettings(file=file, json_lines=True, level="info"))
    log.info("two\nlines and %d", 3)
    log.debug("not this")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(r["level"], r["logger"], r["message"]) for r in records] == [
        ("info", "edge_runtime.test", "two\nlines and 3")
    ]
    assert datetime.fromisoformat(records[0]["time"]).tzinfo is not None


def test_one_record_cannot_fill_the_log(tmp_path):
    file = tmp_path / "edge.log"
    set_up_logging(LogSettings(file=file))
    log.warning("%s", "y y" * 3_000_000)
    log.warning("%s", "y" * 9_000_000)
    # Where it is cut an address must not lose the @ by which its password is known.
    log.warning("%s %s", "y" * (MAX_RECORD_CHARS - 25), URL)
    text = file.read_text()
    assert len(text) < 2 * MAX_RECORD_CHARS + 400 and text.count("more characters") == 3
    assert SECRET not in text


def test_a_line_cannot_be_forged(tmp_path):
    file = tmp_path / "edge.log"
    set_up_logging(LogSettings(file=file))
    log.warning("name\n2026-01-01T00:00:00.000+00:00 ERROR edge_runtime: all is lost")
    assert file.read_text().splitlines()[1].startswith("    2026")


def test_setting_up_again_replaces_and_repeats_nothing(tmp_path):
    first, second = tmp_path / "a.log", tmp_path / "b.log"
    set_up_logging(LogSettings(file=first))
    set_up_logging(LogSettings(file=second))
    log.warning("once")
    assert first.read_text() == "" and second.read_text().count("once") == 1 and log_file() == second


def test_a_log_that_cannot_be_opened_is_one_sentence(tmp_path):
    with pytest.raises(LvmError, match="log .*none/edge.log cannot be written: No such file"):
        set_up_logging(LogSettings(file=tmp_path / "none" / "edge.log"))


def test_a_full_disk_ends_nothing_and_is_counted(tmp_path, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    set_up_logging()
    handler = BoundedFile(Path("/dev/full"), 1.0, 1)
    handler.emit(logging.LogRecord("a", logging.WARNING, "", 0, "lost", (), None))
    assert handler.lost == 1 and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("json_lines", [False, True])
def test_an_interval_is_forgotten_in_all_files_while_logging_goes_on(tmp_path, json_lines):
    file = tmp_path / "edge.log"
    set_up_logging(LogSettings(file=file, json_lines=json_lines))
    for at in (100.0, 200.0, 300.0):
        record = log.makeRecord(log.name, logging.WARNING, "", 0, f"at {at}\nmore of {at}", (), None)
        record.created = at
        log.handle(record)
    older = tmp_path / "edge.log.1"
    older.write_text(datetime.fromtimestamp(199, timezone.utc).isoformat() + " WARNING old: of 199\n")
    others = tmp_path / "edge.log.txt"
    others.write_bytes(older.read_bytes())
    assert forget_lines(file, 150, 250) == (2 if json_lines else 3)
    log.warning("after")
    text = file.read_text()
    assert "200.0" not in text and "100.0" in text and "more of 300.0" in text and "after" in text
    assert older.read_text() == "" and others.read_text() != "" and "\0" not in text


def test_a_large_log_is_forgotten_in_bounded_memory_and_keeps_what_it_was(tmp_path):
    file = tmp_path / "edge.log"
    stamp = datetime.fromtimestamp(200, timezone.utc).isoformat()
    other = datetime.fromtimestamp(300, timezone.utc).isoformat()
    with file.open("w") as out:
        out.write("2026-99-99T00:00:00+00:00 is no date\n")
        for number in range(40_000):
            out.write(f"{stamp} WARNING a: {number:0200}\n{other} WARNING a: {number:0200}\n")
        out.write(f"{other} WARNING a: " + "x" * 1_000_000 + "\n")
    file.chmod(0o640)
    size = file.stat().st_size
    link = tmp_path / "link.log"
    link.symlink_to(file)
    tracemalloc.start()
    try:
        assert forget_lines(link, 150, 250) == 40_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000 < size / 5, f"{peak} bytes"
    assert link.is_symlink() and file.stat().st_mode & 0o777 == 0o640
    lines = file.read_text().splitlines()
    assert len(lines) == 40_002 and not any(line.startswith(stamp) for line in lines)
    assert len(lines[-1]) > 1_000_000 and sorted(path.name for path in tmp_path.iterdir()) == [
        "edge.log",
        "link.log",
    ]


def test_a_log_that_another_process_made_forget_is_written_on(tmp_path):
    file = tmp_path / "edge.log"
    set_up_logging(LogSettings(file=file))
    log.warning("before")
    fresh = tmp_path / "fresh"
    fresh.write_text("what was kept\n")
    fresh.replace(file)
    log.warning("after")
    assert "what was kept" in file.read_text() and "after" in file.read_text()
    file.unlink()
    log.warning("once more")
    assert "once more" in file.read_text()


def test_a_forgetting_that_fails_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "edge.log"
    file.write_text(datetime.fromtimestamp(200, timezone.utc).isoformat() + " WARNING a: b\n")
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_runtime.system.logs.os.fsync", full)
    with pytest.raises(LvmError, match="cannot be rewritten: No space left"):
        forget_lines(file, 150, 250)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["edge.log"]


def test_a_log_that_cannot_be_opened_again_loses_only_what_comes_meanwhile(tmp_path, monkeypatch):
    file = tmp_path / "edge.log"
    handler = BoundedFile(file, 1.0, 1)

    def emit(text):
        handler.emit(logging.LogRecord("a", logging.WARNING, "", 0, text, (), None))

    def refused():
        raise PermissionError(13, "Permission denied")

    emit("before")
    file.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(handler, "_open", refused)
        emit("lost")
        emit("lost too")
    emit("after")
    handler.stream.close()  # as a full disk leaves it where the file is to be put aside
    emit("once more")
    handler.close()
    assert handler.lost == 2 and file.read_text() == "after\nonce more\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_log_stays_its_owners_whoever_forgets(tmp_path, monkeypatch):
    file = tmp_path / "edge.log"
    line = datetime.fromtimestamp(200, timezone.utc).isoformat() + " WARNING a: b\n"
    file.write_text(line)
    os.chown(file, 1234, 1235)
    assert forget_lines(file, 150, 250) == 1
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 1235)
    file.write_text(line)

    def not_allowed(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("edge_runtime.system.logs.os.fchown", not_allowed)
    with pytest.raises(LvmError, match="it belongs to user and group 1234:1235; forget as that user or as r"):
        forget_lines(file, 150, 250)
    assert file.read_text() == line and [path.name for path in tmp_path.iterdir()] == ["edge.log"]


def test_the_command_line_logs_to_a_file(tmp_path):
    file = tmp_path / "edge.log"
    state = tmp_path / "state"
    state.mkdir()
    (state / "privacy.json").write_text('{"zones": {"old": [[0, 0], [1, 0], [0, 1]]}}')
    command = [sys.executable, "-m", "edge_runtime.interfaces.cli.main", "--log-file", file, "--log-json"]
    command += ["run", "--source", "demo?size=64x48", "--backend", "onnxruntime"]
    subprocess.run(
        [*command, "--for", "1", "--state", state, "--no-http"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "old were on before and are off now" in json.loads(file.read_text().splitlines()[0])["message"]


# -- times -------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 22, 12, 0).timestamp()  # by the machine's own clock


@pytest.mark.parametrize(
    "text, expected",
    [
        ("60", 60.0),
        ("0.5", 0.5),
        ("11:30", NOON - 1800),
        ("11:30:30.5", NOON - 1769.5),
        ("12:00", NOON),
        ("12:01", NOON + 60 - 86400),
        ("2026-11-22T11:00", NOON - 3600),
        ("2026-11-22 11:00:01", NOON - 3599),
        ("2026-11-22T11:00:00Z", datetime(2026, 11, 22, 11, tzinfo=timezone.utc).timestamp()),
        ("2026-11-22T11:00+02:00", datetime(2026, 11, 22, 9, tzinfo=timezone.utc).timestamp()),
    ],
)
def test_times_are_seconds_or_what_the_clock_showed(text, expected):
    epoch = 0.0 if expected < 100 else NOON - 7200
    assert moment(text, name="--from", epoch=epoch, now=NOON) == pytest.approx(expected - epoch)


@pytest.mark.parametrize("text", ["", "nan", "inf", "25:00", "12:60", "noon", "2026-13-01T00:00", "9" * 400])
def test_what_is_no_time_is_one_sentence(text):
    with pytest.raises(LvmError, match="--to must be a time: expected seconds"):
        moment(text, name="--to", epoch=0.0, now=NOON)


def test_a_recording_has_no_clock():
    with pytest.raises(LvmError, match="recording without a clock; give seconds"):
        moment("11:30", name="--from", epoch=None)
    assert moment("30", name="--from", epoch=None) == 30
