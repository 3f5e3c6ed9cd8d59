"""Answers of a camera tell what the clock showed, and are asked by it; a recording has only its seconds."""

import json
import time
from datetime import datetime

import pytest
from typer.testing import CliRunner

import edge_runtime.service.camera as camera_run
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.cli.main import app
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.query.answers import Answer, Covered, SpanCandidate
from edge_runtime.query.schema import QueryRequest, parse_query
from edge_runtime.query.timestamps import format_span, format_time, parse_timestamp
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from engines.errors import LvmError
from tests.support.cameras import ScriptedSource

NOON = datetime(2026, 11, 22, 12, 0, 0).timestamp()
WHERE = '{"type": "object", "activity": "scan"}'


@pytest.fixture
def live(tmp_path, monkeypatch, engines):
    monkeypatch.setattr(
        camera_run,
        "open_source",
        lambda spec, *, sample_fps, start, settings: ScriptedSource(10, start=start),
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
