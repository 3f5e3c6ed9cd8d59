"""A camera is taught while it watches: over HTTP and from videos; its log, its answers, forgetting."""

import json
import sys
import threading

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from edge_runtime.activity.recognizer import ActivityRecogniser
from edge_runtime.activity.sqlite_store import LogFilter
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.frame import Frame
from edge_runtime.interfaces.cli import main as cli
from edge_runtime.interfaces.http import schemas
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.persistence.encryption import Key
from edge_runtime.privacy.saved_settings import SavedSettings, save_settings
from edge_runtime.service.activity_recorder import ActivityRecorder
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.forget_folder import forget_in_folder
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from edge_runtime.service.teacher import Teacher
from edge_runtime.system.errors import QueryError
from edge_runtime.teaching.descriptions import RecentFrames
from edge_runtime.teaching.examples import FILE, ExampleFile, make_example
from tests.support.cameras import ScriptedSource, ServiceThread, fake_engines

EVENTS = (60, 90, 120, 180, 220, 260, 270)
"""Seconds at which a red thing is there for six seconds."""


def picture(t: int) -> np.ndarray:
    image = np.random.default_rng(5).integers(90, 110, (48, 64, 3), np.uint8)
    if any(start <= t < start + 6 for start in EVENTS):
        x = 8 + 5 * (t % 6)
        image[10:25, x : x + 14] = (220, 20, 20)
    return image


class Room(ScriptedSource):
    def __iter__(self):
        for frame in super().__iter__():
            yield Frame(picture(int(frame.t)), frame.t)


@pytest.fixture
def taught(tmp_path, sources, monkeypatch):
    """A camera that stands still at second 150 until `go` is set, and the client of its HTTP API."""
    monkeypatch.setattr(ActivityRecogniser, "detect", lambda *args, **settings: [])
    reached, go = threading.Event(), threading.Event()

    def wait(k):
        if k == 150:
            reached.set()
            assert go.wait(60)

    sources["room"] = lambda start: Room(300, start=start, before=wait)
    with Service(fake_engines()) as service:
        service.add(CameraSettings("room", tmp_path / "room", "room"))
        with ActivityRecorder(service, ActivitySettings()) as recorder:
            running = ServiceThread(service)
            assert reached.wait(60)
            run = Run(service)
            run.activities = recorder
            yield TestClient(make_app(service, run)), service, recorder, go, running
            go.set()
            running.stop()


def teach(client, start: int, **more):
    return client.post("/api/v1/taught", json={"name": "red thing", "from": start, "to": start + 6, **more})


def test_what_is_taught_is_logged_answered_and_forgotten(taught, tmp_path):
    client, service, recorder, go, running = taught
    for number, start in enumerate(EVENTS[:3], 1):
        reply = teach(client, start)
        assert reply.status_code == 200, reply.text
        added = schemas.TaughtExampleAdded.model_validate(reply.json())
        assert added.example.id == number and added.taught.examples == number
    listed = schemas.TaughtActivities.model_validate(client.get("/api/v1/taught").json())
    assert [(one.name, one.recall, one.false_rate) for one in listed.classes] == [("red thing", 1.0, 0.0)]
    go.set()
    running.until(lambda: service.camera().condition == "ended", "the end of the source")
    running.until(lambda: not recorder._cameras["room"].due(), "the last pass")
    with recorder._lock:  # held until what a pass found is written
        rows, _ = recorder.find("room", LogFilter())
    later = sorted(row.start for row in rows if row.start > 150)
    assert len(later) == 4 and all(abs(a - b) <= 2.5 for a, b in zip(later, EVENTS[3:], strict=True)), later
    assert {row.activity for row in rows} == {"red thing"}

    # When was it done at all? By the log; for all other questions examples say too little.
    ask = {"type": "time", "activity": "red thing", "from": 150}
    answer = client.post("/api/v1/query", json=ask).json()
    assert not answer["abstained"] and len(answer["spans"]) == 4
    assert answer["activity"] == "red thing"
    assert any(span["from"] <= 183 <= span["to"] for span in answer["spans"])
    never = client.post("/api/v1/query", json={**ask, "from": 130, "to": 170}).json()
    assert never["abstained"] and never["reason"] == "it was not recognised in that time"
    refused = client.post("/api/v1/query", json={"type": "object", "activity": "red thing"})
    assert refused.status_code == 422 and "ask when it was done" in refused.json()["error"]
    unknown = client.post("/api/v1/query", json={"type": "time", "activity": "red thin"})
    assert unknown.status_code == 422 and "nearest is 'red thing'" in unknown.json()["error"]

    # What was taught from a time that is forgotten goes with it.
    forgotten = client.post("/api/v1/forget", json={"from": 60, "to": 66}).json()
    assert forgotten["examples"] == 1
    assert teach(client, 60).status_code == 422, "its frames are gone too"
    shown = schemas.TaughtActivity.model_validate(client.get("/api/v1/taught/red%20thing").json())
    assert [one.start for one in shown.marked] == [90, 120]
    removed = client.delete("/api/v1/taught/red%20thing", params={"example": 2}).json()
    assert removed == {"name": "red thing", "removed": 1}
    assert client.delete("/api/v1/taught/red%20thing").json()["removed"] == 1
    assert client.get("/api/v1/taught/red%20thing").status_code == 404


def test_what_cannot_be_taught_is_one_sentence(taught):
    client, service, *_ = taught
    known = service.engines.bundle.manifest.classes[0].name
    for body, status, words in (
        ({"name": known, "from": 60, "to": 66}, 422, "the bundle knows already"),
        ({"name": "a", "from": 400, "to": 410}, 422, "what can be taught is from 0.0 to 1"),
        ({"name": "a", "from": 60, "to": 60}, 422, "from must be before to"),
        ({"name": "a", "from": 0, "to": 149}, 422, "up to 120 s"),
        ({"name": "a", "from": 60, "to": 66, "shows": False}, 422, "nothing was taught yet"),
        ({"name": "", "from": 60, "to": 66}, 422, "name"),
        ({"name": "a", "from": 60, "to": 66, "camera": "nowhere"}, 404, "there is no camera"),
    ):
        reply = client.post("/api/v1/taught", json=body)
        assert reply.status_code == status and words in reply.json()["error"], reply.text
    plain = client.post("/api/v1/taught", content=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 422 and "application/json" in plain.json()["error"]
    assert client.get("/api/v1/taught").json() == {"classes": [], "waiting": [], "alone": []}


@pytest.fixture
def lvm(monkeypatch, capsys):
    def run(*arguments, status=0):
        monkeypatch.setattr(sys, "argv", ["lvm-edge", *map(str, arguments)])
        try:
            cli.main()
            ended = 0
        except SystemExit as end:
            ended = int(end.code or 0)
        captured = capsys.readouterr()
        assert ended == status, captured.err
        return captured.out if not status else captured.err

    return run


def test_videos_teach_and_are_scored_on_the_command_line(lvm, tmp_path):
    """With the default bundle, as a user would; the class is a colour, so that any backbone has it."""

    def clip(name: str, rgb: tuple[int, int, int], seed: int):
        write_clip(tmp_path / f"{name}.avi", rgb[::-1], seed)
        return tmp_path / f"{name}.avi"

    red = [clip(f"red{number}", (220, 30, 30), number) for number in range(4)]
    blue = [clip(f"blue{number}", (30, 30, 220), 10 + number) for number in range(4)]
    state = tmp_path / "state"
    assert "nothing to tell it from yet" in lvm("teach", "add", "red", *red[:3], "--state", state)
    assert "too little was taught to judge it" in lvm("teach", "score", "--state", state, status=2)
    out = lvm("teach", "add", "blue", *blue[:3], "--state", state)
    assert "3 examples, right with 100 % of them" in out.splitlines()[-1]
    lines = lvm("teach", "score", red[3], blue[3], "--state", state).splitlines()
    first, second = (json.loads(line)["confidence"] for line in lines)
    assert first["red"] > 0.5 > first["blue"] and second["blue"] > 0.5 > second["red"]
    judged = [json.loads(line) for line in lvm("teach", "score", "--state", state, "--json").splitlines()]
    assert [(one["name"], one["examples"], one["judged_by"]) for one in judged] == [
        ("blue", 3, 6), ("red", 3, 6),
    ]  # fmt: skip
    assert all(one["auc"] == [1.0, 1.0, 1.0] for one in judged)
    table = lvm("teach", "score", "--curve", "--state", state).splitlines()
    assert table[0].split()[:3] == ["activity", "examples", "AUC"] and "1.00 (1.00 to 1.00)" in table[-1]
    assert "leave the videos out" in lvm("teach", "score", red[3], "--curve", "--state", state, status=2)
    listed = json.loads(lvm("teach", "list", "--state", state, "--json"))
    assert [one["name"] for one in listed["classes"]] == ["blue", "red"]
    assert "of red1.avi" in lvm("teach", "show", "red", "--state", state)
    assert "red: 1 removed" in lvm("teach", "remove", "red", "--example", 2, "--state", state)
    assert "red: 2 removed" in lvm("teach", "remove", "red", "--state", state)
    assert "'red' was not taught; nearest is 'blue'" in lvm(
        "teach", "show", "red", "--state", state, status=2
    )
    assert "needs --from and --to" in lvm("teach", "add", "red", status=2)
    assert "no lvm-edge answers" in lvm(
        "teach", "add", "red", "--from", 1, "--to", 5, "--url", "http://127.0.0.1:9", status=4
    )
    assert "a video is a file" in lvm("teach", "add", "red", "rtsp://camera/1", "--state", state, status=2)


def test_a_folder_that_no_process_uses_forgets_what_it_was_taught(tmp_path, sources):
    sources["room"] = lambda start: Room(150, start=start)
    with Service(fake_engines()) as service:
        camera = service.add(CameraSettings("room", tmp_path, "room"))
        service.run()
        camera.teacher.add("red thing", 60, 66)
        camera.teacher.add("red thing", 120, 126)
    assert forget_in_folder(tmp_path, 60, 61).examples == 1
    assert (tmp_path / FILE).exists()
    assert forget_in_folder(tmp_path, 0, 150).examples == 1
    assert not (tmp_path / FILE).exists()


def test_videos_of_one_name_are_told_apart_by_content_and_those_of_a_recording_left_out_together(
    lvm, tmp_path
):
    state, places = tmp_path / "state", {}
    for colour, bgr in (("red", (30, 30, 220)), ("blue", (220, 30, 30))):
        places[colour] = tmp_path / colour
        places[colour].mkdir()
        for number in range(4):
            write_clip(places[colour] / f"shop{number // 2}_{number}.avi", bgr, number)
        videos = [places[colour] / f"shop{number // 2}_{number}.avi" for number in range(4)]
        out = lvm("teach", "add", colour, *videos, "--group-by", r"(shop\d)_", "--state", state).splitlines()
        assert out[:4] == [
            f"{colour}: example {n} of {v.name}" for n, v in enumerate(videos, 1 + 4 * (colour == "blue"))
        ]
    listed = json.loads(lvm("teach", "list", "--state", state, "--json"))
    assert [(one["name"], one["examples"], one["recall"]) for one in listed["classes"]] == [
        ("blue", 4, 1.0), ("red", 4, 1.0),
    ]  # fmt: skip
    examples = ExampleFile(state).read()
    assert len({one.video for one in examples}) == 8 and {one.group for one in examples} == {"shop0", "shop1"}
    again = lvm("teach", "add", "red", places["red"] / "shop0_0.avi", "--state", state, status=2)
    assert "was marked before, as example 1 of red" in again
    lvm("teach", "export", tmp_path / "events.csv", "--state", state)
    lines = (tmp_path / "events.csv").read_text().splitlines()
    assert len(lines) == 9 and lines[1].startswith("shop0_0.avi,red,,0.0,")
    assert "regular expression" in lvm(
        "teach", "add", "a", videos[0], "--group-by", "(", "--state", state, status=2
    )


def test_privacy_zones_hide_from_a_video_what_they_hide_from_the_camera(lvm, tmp_path):
    """A zone over the whole picture: red and blue are alike then."""
    state = tmp_path / "state"
    state.mkdir()
    save_settings(state, SavedSettings(zones={"all": ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))}))
    for number, (colour, bgr) in enumerate((("red", (30, 30, 220)), ("blue", (220, 30, 30)))):
        write_clip(tmp_path / f"{colour}.avi", bgr, number)
        lvm("teach", "add", colour, tmp_path / f"{colour}.avi", "--state", state)
    red, blue = ExampleFile(state).read()
    assert np.allclose(red.rows, blue.rows)


def write_clip(path, bgr, seed: int) -> None:
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 3, (128, 96))
    for number in range(12):
        frame = np.full((96, 128, 3), 120, np.uint8)
        frame[30:70, 10 + 6 * number : 40 + 6 * number] = bgr
        writer.write(frame + rng.integers(0, 12, frame.shape, np.uint8))
    writer.release()


def test_nothing_of_a_forgotten_time_stays_in_ram(tmp_path, sources):
    sources["room"] = lambda start: Room(150, start=start)
    with Service(fake_engines()) as service:
        camera = service.add(CameraSettings("room", tmp_path, "room"))
        service.run()
        teacher = camera.teacher
        teacher.add("red thing", 60, 66)
        teacher.add("red thing", 120, 126)
        assert teacher.classes().names == ("red thing",)
        camera.privacy.forget(0, 150)
        assert teacher._fitted is None and len(teacher.recent.take()) == 0
        assert teacher.recent._describer._before is None
        assert teacher.classes().names == ()


def test_what_is_forgotten_is_forgotten_though_its_file_is_damaged(tmp_path, sources):
    sources["room"] = lambda start: Room(150, start=start)
    with Service(fake_engines()) as service:
        camera = service.add(CameraSettings("room", tmp_path, "room"))
        service.run()
        (tmp_path / FILE).write_bytes(b"what is this?")
        camera.privacy.forget(60, 66)
        assert not (tmp_path / FILE).exists()


def test_a_key_seals_what_was_taught_without(tmp_path):
    frames = RecentFrames(1000)
    for t in range(40):
        frames.add(np.random.default_rng(t).normal(size=(1, 49, 8)).astype(np.float32), [float(t)])
    file = ExampleFile(tmp_path)
    file.add(make_example([frames.take()], "stocking", 10, 20, model="m"))
    assert b"stocking" in (tmp_path / FILE).read_bytes()
    teacher = Teacher(tmp_path, Key(bytes(32)), "m", ["Scan"])
    assert b"stocking" not in (tmp_path / FILE).read_bytes()
    assert teacher.describe(" stocking ")["examples"] == 1
    with pytest.raises(QueryError, match="the bundle knows already"):
        teacher.add("scan ", 10, 20)


def test_a_name_with_a_slash_can_be_shown_and_removed(taught):
    client, *_ = taught
    assert (
        client.post("/api/v1/taught", json={"name": "pick/return", "from": 60, "to": 66}).status_code == 200
    )
    assert client.get("/api/v1/taught/pick%2Freturn").json()["examples"] == 1
    assert client.delete("/api/v1/taught/pick%2Freturn").json()["removed"] == 1


def test_the_settings_may_name_what_a_camera_is_taught(tmp_path, sources, caplog):
    with Service(fake_engines()) as service:
        ActivityRecorder(service, ActivitySettings(class_confidence={"stocking": 0.7}))
    assert "'stocking': it counts where a camera was taught that" in caplog.text
