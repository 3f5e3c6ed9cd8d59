"""Activities that are recognised while a camera watches: rows, events, doors, forgetting, falling behind."""

import contextlib
import csv
import io
import json
import re
import shutil
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from edge_runtime.activity.log import ActivityLog
from edge_runtime.activity.occurrences import Occurrences
from edge_runtime.activity.recognizer import ActivityRecogniser, Detection
from edge_runtime.activity.row import Row
from edge_runtime.activity.sqlite_store import LogFilter
from edge_runtime.config.http import HttpSettings
from edge_runtime.config.schema import ActivitySettings, Config
from edge_runtime.interfaces.cli import main as cli
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.startup import component_lifespan
from edge_runtime.memory.coverage import Coverage
from edge_runtime.persistence import load_snapshot
from edge_runtime.service.activity_recorder import ActivityRecorder, CameraProgress
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from edge_runtime.service.status import make_camera_status
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.sources.demo import parse_demo
from engines.errors import EngineFault, LvmError
from engines.fake import FakeEngine
from tests.support.cameras import ScriptedSource, fake_engines

DEMO = "demo?seed=7001&size=224x224"
SECONDS = 130
NAMES, DOING = ("bag", "unbag", "scan"), ("bagging", "unbagging", "scanning")
GAP = 4.0


def found(start: float, end: float, *scores: tuple[int, float]) -> Detection:
    return Detection(dict(scores), start, end)


@pytest.fixture
def occurrences():
    ids = iter(range(1, 1000))
    return Occurrences(NAMES, DOING, lambda a, b: Row(next(ids), "lane1", "", "", a, b, 0.0))


# -- joining -----------------------------------------------------------------------------------------------


def test_one_occurrence_over_several_looks_is_one_row(occurrences):
    first = occurrences.join([found(8, 10, (2, 0.9))], 10, GAP)
    second = occurrences.join([found(8, 19, (2, 0.97))], 20, GAP)
    third = occurrences.join([found(15, 22, (2, 0.92))], 30, GAP)
    assert [[change.type for change in changes] for changes in (first, second, third)] == [
        ["new"],
        ["update"],
        ["update", "end"],
    ]
    row = third[-1].after
    assert (row.id, row.start, row.end, row.confidence, row.ongoing) == (1, 8, 22, 0.97, False)
    assert third[-1].before == replace(row, ongoing=True)
    assert occurrences.join([], 40, GAP) == []


def test_what_is_over_within_one_look_begins_and_ends(occurrences):
    changes = occurrences.join([found(1, 3, (2, 0.9)), found(20, 28, (0, 0.9))], 30, GAP)
    assert [(one.type, one.after.activity, one.after.ongoing) for one in changes] == [
        ("new", "scan", True),
        ("new", "bag", True),
        ("end", "scan", False),
    ]
    assert [row.activity for row in occurrences.ongoing] == ["bag"]
    assert [one.type for one in occurrences.close()] == ["end"]


def test_two_names_of_one_occurrence_are_one_row_by_the_likelier(occurrences):
    occurrences.join([found(8, 10, (0, 0.92), (1, 0.91))], 10, GAP)
    (change,) = occurrences.join([found(9, 18, (1, 0.97), (0, 0.95))], 20, GAP)
    assert (change.type, change.after.activity, change.after.alternatives) == ("update", "unbag", ("bag",))
    assert change.after.description == "unbagging"


def test_the_same_activity_later_is_another_row(occurrences):
    occurrences.join([found(1, 5, (2, 0.9))], 10, GAP)
    (change, *_) = occurrences.join([found(9.5, 15, (2, 0.9))], 20, GAP)
    assert change.type == "new" and change.after.id == 2


def test_what_was_told_before_a_restart_is_not_told_again(occurrences):
    occurrences.restore([Row(1, "lane1", "scan", "scanning", 8, 12, 0.95, ongoing=False)])
    assert occurrences.join([found(8, 12, (2, 0.93))], 20, GAP) == []


def test_forgotten_occurrences_do_not_come_back_by_an_update(occurrences):
    occurrences.join([found(8, 10, (2, 0.9))], 10, GAP)
    occurrences.forget(9, 12)
    (change,) = occurrences.join([found(13, 19, (2, 0.9))], 20, GAP)
    assert change.type == "new" and change.after.start == 13


# -- how far was looked ------------------------------------------------------------------------------------


@pytest.fixture
def at(tmp_path, occurrences):
    """A camera that has seen up to a second, as the recorder sees it; `move(t, condition)`."""
    network = fake_engines().bundle.manifest.network
    camera = SimpleNamespace(
        ingest=SimpleNamespace(network=network, period=1.0), resumed=None, condition="running", version=None
    )
    log = ActivityLog(tmp_path)
    watched = CameraProgress(camera, log, occurrences, lambda period: GAP)

    def move(end: float, condition: str = "running", filled: int = 294) -> CameraProgress:
        coverage = Coverage(0.0, end)
        camera.version = SimpleNamespace(coverage=coverage, memory=SimpleNamespace(filled=filled))
        camera.condition = condition
        return watched

    yield move
    log.close()


def test_a_look_covers_twice_what_has_come_since_the_last(at):
    assert not at(29, filled=0).due(), "until the first clip is over everything is news"
    assert at(30).due() and at(30).take_windows()[1] == [(0, 30)]
    assert not at(39).due()
    assert at(40).due() and at(40).take_windows()[1] == [(20, 40)]
    assert at(40, "paused").due() is False
    assert at(41, "ended").due() and at(41).take_windows()[1] == [(30, 41)]


def test_moments_of_a_slow_source_may_lie_further_apart_within_one_occurrence(at, occurrences):
    watched = CameraProgress(at(60).camera, at(60).log, occurrences, lambda period: max(4.0, 2 * period))
    assert (watched.period, watched.gap) == (1, 4)
    watched.camera.version.coverage = Coverage(0.0, 60.0, period=12.0)
    assert (watched.period, watched.gap) == (12, 24)


def test_a_run_goes_on_looking_from_the_last_row_of_the_one_before(at, occurrences, tmp_path):
    watched = at(200)
    watched.log.put([Row(watched.log.new_id(), "lane1", "scan", "scanning", 100, 112, 0.95, ongoing=False)])
    watched.camera.resumed = SimpleNamespace(version=watched.camera.version)
    again = CameraProgress(watched.camera, watched.log, occurrences, lambda period: GAP)
    assert again.due() and again.take_windows()[1] == [(102, 200)]
    assert occurrences.join([found(100, 112, (2, 0.97))], 200, GAP)[0].type == "update"


def test_who_falls_behind_looks_further_and_counts_what_it_skips(at):
    at(30).take_windows()
    assert at(200).take_windows()[1] == [(20, 200)]
    assert at(200).skipped_s == 0
    assert at(2000).take_windows()[1] == [(800, 1100), (1100, 1400), (1400, 1700), (1700, 2000)]
    assert at(2000).skipped_s == 600
    watched = at(2100)
    watched.skip()
    assert watched.skipped_s == 700 and not watched.due()


# -- with the default bundle -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(engines, tmp_path_factory):
    """A run of the demo, and the events that it told."""
    folder = tmp_path_factory.mktemp("state")
    with Service(engines) as service:
        service.add(CameraSettings(DEMO, folder, "lane1"))
        run = Run(service, Config(http=HttpSettings(enabled=False)))
        with service.events.subscribe(1000) as events, component_lifespan(run):
            service.run(SECONDS)
        seen = []
        while (event := events.get(0)) is not None:
            seen.append(event)
    return SimpleNamespace(folder=folder, events=[one for one in seen if one.kind == "activity"])


@pytest.fixture
def again(engines, told, tmp_path):
    """The same camera with its log, watched by nobody yet: a client, and the run."""
    folder = tmp_path / "state"
    shutil.copytree(told.folder, folder)
    with Service(engines) as service:
        service.add(CameraSettings(DEMO, folder, "lane1"))
        run = Run(service, Config(http=HttpSettings(enabled=False)))
        with component_lifespan(run):
            settle(run)
            client = TestClient(make_app(service, run), raise_server_exceptions=False)
            yield SimpleNamespace(client=client, run=run, service=service, folder=folder)


def settle(run) -> None:
    """Until what an earlier run had not looked at has been looked at."""
    latest = time.monotonic() + 60
    while any(one.due() for one in run.activities._cameras.values()):
        assert time.monotonic() < latest, "it looks for ever"
        time.sleep(0.02)
    with run.activities._lock:
        pass


def lvm(*arguments) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        cli.app([str(one) for one in arguments], standalone_mode=False)
    return out.getvalue()


def test_what_was_done_in_the_demo_is_logged_at_its_time(told):
    rows = json.loads(lvm("activities", "--state", told.folder, "--format", "json"))["activities"]
    happened = [one for one in parse_demo(DEMO).make_world().events(40, SECONDS) if one.end < SECONDS]
    assert len(happened) >= 3, "a demo in which nothing happens shows nothing"
    for event in happened:
        name = ACTIVITIES[event.activity].name
        near = [
            row
            for row in rows
            if name in (row["activity"], *row["alternatives"])
            and min(row["to"], event.end) - max(row["from"], event.start) > 0.5 * (event.end - event.start)
        ]
        assert len(near) == 1, f"{name} at {event.start}: {rows}"
        assert not near[0]["ongoing"] and near[0]["from_at"] is None, "a recording has no clock"


def test_events_tell_each_row_from_its_beginning_to_its_end(told):
    rows = {}
    for event in told.events:
        assert event.camera == "lane1"
        id = event.after["id"]
        assert (event.type == "new") == (event.before is None) == (id not in rows)
        if event.before is not None:
            assert event.before == rows[id], "what was told before is what was before"
        rows[id] = event.after
        # What has ended may still be told more exactly by a later look; it does not go on by that.
        over = event.type == "end" or (event.type == "update" and not event.before["ongoing"])
        assert over or event.after["ongoing"]
        assert event.type != "end" or (event.before["ongoing"] and not event.after["ongoing"])
    logged = json.loads(lvm("activities", "--state", told.folder, "--format", "json"))["activities"]
    assert {row["id"]: row for row in logged} == rows and rows


def test_the_route_the_command_and_the_export_tell_the_same(again):
    every = again.client.get("/api/v1/activities").json()
    assert not every["more"] and every["activities"]
    first = every["activities"][-1]
    asked = {"camera": "lane1", "from": first["from"], "to": first["to"], "text": first["description"][:9]}
    assert again.client.get("/api/v1/activities", params=asked).json()["activities"] == [first]
    reply = again.client.get("/api/v1/activities", params={"format": "csv"})
    assert reply.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(reply.text)))
    assert [int(line["id"]) for line in lines] == [row["id"] for row in every["activities"]]
    state = ("--state", again.folder)
    assert lvm("activities", *state, "--format", "csv") == reply.text
    assert json.loads(lvm("activities", *state, "--format", "json", "--limit", 1)) == {
        "activities": every["activities"][:1],
        "more": True,
    }
    assert first["activity"] in lvm("activities", *state)
    status = make_camera_status(again.service.camera("lane1"))["activities"]
    assert status["rows"] == len(every["activities"]) and status["latest"] == every["activities"][0]


@pytest.mark.parametrize(
    ("asked", "status", "sentence"),
    [
        ({"camera": "lane9"}, 404, "there is no camera"),
        ({"from": "yesterday"}, 422, "from must be a time"),
        ({"from": "9", "to": "3"}, 422, "from must be before to"),
        ({"limit": "0"}, 422, "limit"),
        ({"format": "xml"}, 422, "format"),
        ({"text": "a" * 300}, 422, "text"),
    ],
)
def test_what_the_route_does_not_understand_is_one_sentence(again, asked, status, sentence):
    reply = again.client.get("/api/v1/activities", params=asked)
    assert reply.status_code == status and sentence in reply.json()["error"]


def test_the_command_asks_a_running_process(engines, told, tmp_path):
    folder = tmp_path / "state"
    shutil.copytree(told.folder, folder)
    with Service(engines) as service:
        service.add(CameraSettings(DEMO, folder, "lane1"))
        with component_lifespan(Run(service, Config(http=HttpSettings(listen="127.0.0.1:0")))) as run:
            settle(run)
            asked = ("activities", "--format", "json", "--camera", "lane1", "--from", 0)
            said = json.loads(lvm(*asked, "--url", run.address))
            assert said.pop("asked")["lane1"]["from"] == 0
            assert said == json.loads(lvm(*asked[:3], "--state", folder))
            with pytest.raises(LvmError, match="there is no camera"):
                lvm("activities", "--url", run.address, "--camera", "lane9")


def test_forgetting_in_a_run_removes_the_rows(again):
    rows = again.client.get("/api/v1/activities").json()["activities"]
    middle = rows[len(rows) // 2]
    told = again.client.post("/api/v1/forget", json={"from": middle["from"], "to": middle["to"]}).json()
    left = again.client.get("/api/v1/activities").json()["activities"]
    assert told["activities"] >= 1 and middle["id"] not in [row["id"] for row in left]
    assert told["activities"] == len(rows) - len(left)


def test_forgetting_in_a_stopped_state_removes_the_rows(told, tmp_path):
    folder = tmp_path / "state"
    shutil.copytree(told.folder, folder)
    said = lvm("forget", "--state", folder, "--from", 0, "--to", SECONDS)
    assert int(re.search(r"(\d+) activities", said)[1]) > 0
    assert json.loads(lvm("activities", "--state", folder, "--format", "json"))["activities"] == []


def test_a_window_that_nobody_watched_has_nothing(engines, told):
    version = load_snapshot(told.folder).version
    recogniser = ActivityRecogniser(engines.bundle.manifest, engines.reader)
    assert recogniser.detect(version, 5000, 5020, min_confidence=0.0) == []


# -- what goes wrong ---------------------------------------------------------------------------------------


@pytest.fixture
def reader(engines):
    """Engines whose reader is a function."""
    like = engines.reader
    return lambda run: replace(fake_engines(), reader=FakeEngine(run, like.inputs, like.outputs))


def test_neither_frames_nor_the_end_of_a_run_wait_for_recognising(tmp_path, sources, reader):
    held, asked = threading.Event(), threading.Event()

    def hangs(feeds):
        asked.set()
        held.wait(30)
        raise EngineFault("let go")

    sources["told"] = lambda start: ScriptedSource(
        200, start=start, before=lambda k: k != 60 or asked.wait(20)
    )
    with Service(reader(hangs)) as service:
        camera = service.add(CameraSettings("told", tmp_path, "told"))
        with ActivityRecorder(service, ActivitySettings()):
            service.run()  # ends, although the first look has not
            assert asked.is_set() and camera.version.frames == 200
        held.set()


def test_a_row_that_is_too_old_goes_where_nothing_is_watched_too(tmp_path, sources, reader, monkeypatch):
    monkeypatch.setattr("edge_runtime.service.activity_recorder.TIDY_EVERY_S", 0.0)
    sources["told"] = lambda start: ScriptedSource(0, start=start)
    with Service(reader(lambda feeds: pytest.fail("asked"))) as service:
        service.add(CameraSettings("told", tmp_path, "told"))
        with ActivityRecorder(service, ActivitySettings(keep_days=1)) as recorder:
            kept = recorder._cameras["told"].log
            kept.put([Row(kept.new_id(), "told", "scan", "scans", 1.0, 2.0, 0.9)])
            assert len(kept) == 1
            now = time.time()
            monkeypatch.setattr("edge_runtime.activity.log.time.time", lambda: now + 2 * 86_400)
            end = time.monotonic() + 20
            while len(kept) and time.monotonic() < end:
                time.sleep(0.01)
            assert len(kept) == 0


def test_an_engine_that_fails_costs_looks_and_not_the_run(tmp_path, sources, reader):
    failed = threading.Event()

    def fails(feeds):
        failed.set()
        raise EngineFault("no numbers")

    sources["told"] = lambda start: ScriptedSource(
        90, start=start, before=lambda k: k != 60 or failed.wait(20)
    )
    with Service(reader(fails)) as service:
        camera = service.add(CameraSettings("told", tmp_path, "told"))
        with ActivityRecorder(service, ActivitySettings()) as recorder:
            service.run()
            assert recorder.find("told", LogFilter()) == ([], False)
            watched = recorder._cameras["told"]
        assert "not recognised" in watched.fault and watched.skipped_s >= 60
        assert camera.version.frames == 90


def test_switched_off_there_is_no_log_and_the_route_says_so(engines, tmp_path):
    with Service(engines) as service:
        service.add(CameraSettings("demo?size=64x48", tmp_path))
        run = Run(
            service, Config(http=HttpSettings(enabled=False), activities=ActivitySettings(enabled=False))
        )
        with component_lifespan(run):
            service.run(35)
            reply = TestClient(make_app(service, run)).get("/api/v1/activities")
    assert reply.status_code == 404 and "switched off" in reply.json()["error"]
    assert not list(tmp_path.glob("activities*"))


def test_the_command_refuses_what_it_does_not_understand(told):
    for wrong in (["--format", "xml"], ["--limit", 0], ["--from", 9, "--to", 3], ["--url", "ftp://x"]):
        where = [] if "--url" in wrong else ["--state", told.folder]
        with pytest.raises(LvmError):
            lvm("activities", *where, *wrong)


@pytest.mark.parametrize(("pause", "count"), [(None, 1), (1.0, 2)])
def test_what_follows_at_once_may_be_another_occurrence(occurrences, pause, count):
    occurrences.join([found(8, 11, (2, 0.9)), found(11.5, 12, (2, 0.9))], 14, GAP, pause=pause)
    occurrences.join([found(14, 15, (2, 0.9))], 15, GAP, pause=pause)
    assert [(row.start, row.ongoing) for row in occurrences.ongoing][:1] == [(8, True)]
    assert len(occurrences.ongoing) == count
