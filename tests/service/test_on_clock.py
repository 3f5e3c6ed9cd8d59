"""Answers of a camera tell what the clock showed, and are asked by it; a recording has only its seconds."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime

import pytest
from typer.testing import CliRunner

import edge_runtime.service.camera as camera_run
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.cli.main import app
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.query.answers import Answer, Covered, SpanCandidate
from edge_runtime.query.schema import QueryRequest, parse_query
from edge_runtime.query.timestamps import format_moment, format_span, format_time, parse_timestamp
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from engines.errors import LvmError
from tests.support.cameras import ScriptedSource

NOON = datetime(2026, 11, 22, 12, 0, 0).timestamp()
WHERE = '{"type": "object", "activity": "scan"}'


class SlowSource(ScriptedSource):
    """A camera of one picture a second, slower than the network wants."""

    def __iter__(self):
        return (replace(frame, period=1.0) for frame in super().__iter__())


@pytest.fixture
def live(tmp_path, monkeypatch, engines):
    monkeypatch.setattr(
        camera_run,
        "open_source",
        lambda spec, *, sample_fps, start, settings: SlowSource(10, start=start),
    )
    with Service(engines) as service:
        service.add(CameraSettings("rtsp://10.0.0.1/x", tmp_path / "door", "door"))
        service.add(CameraSettings("demo", tmp_path / "demo", "demo"))
        service.run(8)
        yield service


@pytest.mark.parametrize("t", [0.0, -3599.0, 90_000.0, -86_400.0])
def test_what_is_shown_is_understood_again(t):
    assert parse_timestamp(format_time(t, NOON, NOON), name="x", epoch=NOON, now=NOON) == t
    assert parse_timestamp(format_time(t, None), name="x", epoch=None) == t


def test_today_is_told_by_its_time_and_other_days_with_their_date():
    assert format_time(65.4, NOON, NOON + 100) == "12:01:05"
    assert format_time(65.4, NOON, NOON + 86_400) == "2026-11-22T12:01:05"
    assert (
        format_span(1.0, 61.0, NOON, NOON) == "12:00:01 to 12:01:01"
        and format_span(1.0, 2.0, None) == "1.0 to 2.0 s"
    )


def test_a_time_answer_says_when_by_the_clock_and_keeps_its_seconds():
    answer = Answer(
        type="time", answer="1.0 to 2.0 s", confidence=1, abstained=False, coverage=Covered(start=0, end=9),
        spans=(SpanCandidate(start=1, end=2, confidence=1),), trained=True, memory_version=1, milliseconds=1,
    )  # fmt: skip
    assert "epoch" not in answer.json_fields["coverage"] and answer.json_fields is answer.json_fields
    now = time.time()
    told = answer.on_clock(now)
    assert told.answer == format_span(1, 2, now) == told.json_fields["answer"] and told.spans == answer.spans
    assert Answer.model_validate_json(told.model_dump_json()) == told and told.coverage.epoch == now


def test_a_camera_is_asked_by_the_clock_and_a_recording_is_not(live):
    door = live.cameras["door"].header.epoch
    assert live.ask(QueryRequest(parse_query(WHERE), "door")).coverage.epoch == door
    assert live.ask(QueryRequest(parse_query(WHERE), "demo")).coverage.epoch is None
    with HttpServer(live, "127.0.0.1:0", Run(live, Config())) as server:

        def ask(camera: str, at: str):
            words = ["ask", "object", "--activity", "scan", "--url", server.address, "--camera", camera]
            return CliRunner().invoke(app, [*words, "--to", at, "--json"])

        done = ask("door", datetime.fromtimestamp(door + 5).isoformat())
        assert done.exit_code == 0, done.exception
        assert json.loads(done.stdout)["coverage"]["to"] == pytest.approx(5, abs=1.01)
        status = ["status", "--url", server.address, "--camera", "door"]
        told = CliRunner().invoke(app, status, env={"COLUMNS": "200"}).stdout
        assert f"{format_span(0, 8, door)}, without a gap" in told
        with pytest.raises(LvmError, match="to: this source is a recording without a clock"):
            raise ask("demo", "12:00").exception


# -- a client in another zone ------------------------------------------------------------------------------


@pytest.fixture
def served(live, monkeypatch):
    """A device in Berlin, and a function that runs the command line on a machine in New York."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    with HttpServer(live, "127.0.0.1:0", Run(live, Config())) as server:

        def run(*words: str):
            return subprocess.run(
                [sys.executable, "-m", "edge_runtime.interfaces.cli.main", *words]
                + ["--url", server.address, "--camera", "door"],
                env={**os.environ, "TZ": "America/New_York"},
                capture_output=True,
                text=True,
                timeout=120,
            )

        yield run
    monkeypatch.undo()
    time.tzset()


def _clock(live, t, form="%H:%M:%S"):
    return datetime.fromtimestamp(live.cameras["door"].header.epoch + t).strftime(form)


def _seconds(live, t):
    """The second of the stream at which the clock began to show what it showed at `t`."""
    epoch = live.cameras["door"].header.epoch
    return math.floor(epoch + t) - epoch


@pytest.mark.parametrize("form", ["%H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])
def test_a_client_in_another_zone_asks_about_what_the_camera_s_clock_shows(live, served, form):
    done = served(
        "ask", "object", "--activity", "scan", "--from", _clock(live, 2, form), "--to", _clock(live, 5, form)
    )
    assert done.returncode == 0, done.stderr
    start, end = (_seconds(live, t) for t in (2, 5))
    epoch = live.cameras["door"].header.epoch
    assert f"asked for {format_moment(start, epoch)} to {format_moment(end, epoch)}" in done.stdout
    assert f"watched {format_moment(start, epoch)} to {format_moment(end, epoch)}, 0 gaps" in done.stdout
    status = served("status")
    assert f"{format_moment(0, epoch)} to {format_moment(8, epoch)}, without a gap" in " ".join(
        status.stdout.split()
    )


def test_a_client_in_another_zone_forgets_what_the_camera_s_clock_shows(live, served):
    done = served("forget", "--from", _clock(live, 2), "--to", _clock(live, 5), "--json")
    assert done.returncode == 0, done.stderr
    result, epoch = json.loads(done.stdout), live.cameras["door"].header.epoch
    start, end = (_seconds(live, t) for t in (2, 5))
    assert (result["start"], result["end"]) == pytest.approx((start, end), abs=1e-3)
    assert result["clock_from"] == format_moment(start, epoch) and result["clock_from"][-6:] in (
        "+01:00",
        "+02:00",
    )
    assert result["removed"] >= 3 and result["watched_s"] == pytest.approx(3, abs=1e-3)
    again = served("forget", "--from", _clock(live, 2), "--to", _clock(live, 5))
    assert again.returncode == 0 and "nothing is removed: from " in again.stdout
    assert ", 1 gap of 3 s " in f"{' '.join(served('status').stdout.split())} "


@pytest.mark.parametrize(
    "span", [("2020-01-01", "2020-01-02"), ("2126-01-01T10:00", "2126-01-02T10:00"), ("-900", "-800")]
)
def test_forgetting_what_was_never_watched_says_so_and_removes_nothing(live, served, span):
    before = live.cameras["door"].version
    done = served("forget", "--from", span[0], "--to", span[1], "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["removed"], result["watched_s"], result["tokens"]) == (0, 0, 0)
    assert live.cameras["door"].version.coverage == before.coverage


@pytest.mark.parametrize("text", ["noon", "25:00", "2026-13-01", ""])
def test_only_what_is_no_time_is_a_wrong_use(served, text):
    for command in (["forget"], ["ask", "object", "--activity", "scan"]):
        done = served(*command, "--from", text, "--to", "23:59")
        assert done.returncode == 2 and "from must be a time: expected seconds of the stream" in done.stderr


def test_a_box_may_lie_in_the_picture_of_a_clock_time(live, served):
    """It is read by the camera's clock, and what is printed of a picture finds it again."""
    ask = ("ask", "activity", "--box")
    shown = live.cameras["door"].pictures.newest().frame.t
    for at in (_clock(live, shown), _clock(live, shown, "%Y-%m-%dT%H:%M:%S"), f"{shown + 0.9}"):
        done = served(*ask, f"0.1,0.1,0.9,0.9@{at}")
        assert done.returncode == 0, done.stderr
    for at, why in (
        ("25:00", "object.t must be a time"),
        (_clock(live, 3600, "%Y-%m-%dT%H:%M:%S"), "is still to come"),
        (_clock(live, -3600, "%Y-%m-%dT%H:%M:%S"), "what is watched begins at"),
        ("", "and T as --from"),
    ):
        refused = served(*ask, f"0.1,0.1,0.9,0.9@{at}")
        assert refused.returncode == 2 and why in refused.stderr, refused.stderr
    added = served("catalogue", "add", "milk", "--box", f"0.1,0.1,0.9,0.9@{_clock(live, shown)}")
    assert added.returncode == 0 and "milk: 1 new" in added.stdout, added.stderr
