"""What feeds the page: pictures, memory, history, its own files."""

from __future__ import annotations

import contextlib
import gc
import re
import threading
import time

import cv2
import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient

import edge_runtime.interfaces.http.routes.page as files
from edge_runtime.config.privacy import PrivacySettings
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.interfaces.http.routes.history import SAMPLES, History
from edge_runtime.interfaces.http.routes.pictures import BOUNDARY
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.events import Event
from edge_runtime.service.pictures import MAX_VIEWERS
from edge_runtime.service.runtime import Service
from tests.support.cameras import ScriptedSource, fake_engines

ZONE = {"till": ((0, 0), (0.5, 0), (0.5, 1), (0, 1))}
PART = re.compile(rb"--(.+)\r\n(.+)\r\nContent-Length: (\d+)\r\nX-LVM-T: ([\d.]+)\r\n\r\n")


@pytest.fixture
def service(tmp_path):
    with Service(fake_engines(), opener=lambda spec, **_: ScriptedSource(40)) as service:
        yield service


@pytest.fixture
def watched(service, tmp_path):
    """One camera, called lane/1, with its left half hidden, that saw 40 pictures and kept thumbnails."""
    settings = {"zones": ZONE, "thumbnails": {"enabled": True}}
    service.add(
        CameraSettings("demo", tmp_path / "one", "lane/1", privacy=PrivacySettings.model_validate(settings))
    )
    service.run()
    return service


@pytest.fixture
def client(watched):
    return TestClient(make_app(watched), raise_server_exceptions=False)


@pytest.fixture
def plain(service):
    """A service without a camera."""
    return TestClient(make_app(service), raise_server_exceptions=False)


def picture_in(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_the_newest_picture_has_its_zones_burnt_in_and_says_its_time(client):
    reply = client.get("/api/v1/cameras/lane/1/latest.jpg")
    assert reply.status_code == 200 and reply.headers["X-LVM-T"] == "39.000"
    shown = picture_in(reply.content)
    assert shown.shape == (48, 64, 3) and shown[:, :30].max() < 40 and shown[:, 36:].max() > 200


def test_there_is_no_picture_while_paused_nor_of_what_was_forgotten(client, watched):
    watched.camera("lane/1").privacy.forget(0, 40)
    assert client.get("/api/v1/cameras/lane/1/latest.jpg").json() == {
        "error": "lane/1 has no picture now: it is ended"
    }
    watched.pause("lane/1")
    for file in ("latest.jpg", "live.mjpg"):
        reply = client.get(f"/api/v1/cameras/lane/1/{file}")
        assert reply.status_code == 404 and "paused for privacy" in reply.json()["error"]


def test_a_thumbnail_is_of_a_remembered_moment_only(client, watched):
    memory = client.get("/api/v1/memory").json()
    t = memory["tokens"][0]["t"]
    reply = client.get("/api/v1/cameras/lane/1/thumbnail.jpg", params={"t": t})
    assert reply.status_code == 200 and picture_in(reply.content)[:, :30].max() < 40
    gone = client.get("/api/v1/cameras/lane/1/thumbnail.jpg", params={"t": 1e6})
    assert gone.status_code == 404 and "no thumbnail of 1e+06 s" in gone.json()["error"]
    for nowhen in ("nan", "inf", "-1e308"):
        reply = client.get("/api/v1/cameras/lane/1/thumbnail.jpg", params={"t": nowhen})
        assert reply.status_code == 404 and "no thumbnail of" in reply.json()["error"]


def test_without_thumbnails_their_setting_is_named(service, tmp_path):
    service.add(CameraSettings("demo", tmp_path / "one", "plain"))
    reply = TestClient(make_app(service)).get("/api/v1/cameras/plain/thumbnail.jpg?t=1")
    assert reply.status_code == 404 and "privacy.thumbnails" in reply.json()["error"]


def test_memory_tells_when_and_where_and_nothing_of_what(client, watched):
    body = client.get("/api/v1/memory?camera=lane/1").json()
    version = watched.camera().version
    assert len(body["tokens"]) == version.memory.filled > 0
    assert [token["t"] for token in body["tokens"]] == sorted(token["t"] for token in body["tokens"])
    assert all(set(token) == {"t", "cell", "score"} and 0 <= token["cell"] < 49 for token in body["tokens"])
    assert body["memory_version"] == version.memory.version and body["slots"] == version.memory.slots
    assert body["grid"] == 7
    assert body["coverage"]["to"] == 40 and body["clip_s"] == 30 and body["clip_frames"] == 10
    assert body["zones"] == {"till": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}
    assert client.get("/api/v1/memory?camera=nobody").status_code in (404, 422)


def test_history_is_a_bounded_list_of_numbers_for_each_camera_there_is(watched):
    history = History(watched, every_s=1000)
    history.take_sample()
    answer = {"milliseconds": 7.0}
    watched.events.publish(Event("answer", "new", "lane/1", after={"answer": answer}))
    for _ in range(SAMPLES + 5):
        history.take_sample()
    body = history.as_json()
    curves = body["cameras"]["lane/1"]
    assert {len(values) for values in curves.values()} == {SAMPLES} == {len(body["resident_bytes"])}
    history = History(watched, every_s=1000)
    history.take_sample()
    watched.events.publish(Event("answer", "new", "lane/1", after={"answer": answer}))
    history.take_sample()
    assert history.as_json()["cameras"]["lane/1"]["query_ms"] == [None, 7.0]
    watched.remove("lane/1")
    history.take_sample()
    assert history.as_json()["cameras"] == {}


def test_the_thread_of_a_history_ends_with_it(service):
    before = set(threading.enumerate())
    history = History(service, every_s=0.01)
    (thread,) = [one for one in set(threading.enumerate()) - before if one.name == "history"]
    assert thread.is_alive() and len(service.events._subscriptions) == 1
    del history
    gc.collect()
    thread.join(20)
    assert not thread.is_alive() and not service.events._subscriptions


@pytest.mark.parametrize(
    "after", [None, {}, {"answer": None}, {"answer": {}}, {"answer": {"milliseconds": "many"}}]
)
def test_an_answer_of_another_shape_costs_no_curve(watched, after):
    history = History(watched, every_s=1000)
    watched.events.publish(Event("answer", "new", "lane/1", after=after))
    watched.events.publish(Event("answer", "new", "lane/1", after={"answer": {"milliseconds": 7.0}}))
    history.take_sample()
    assert history.as_json()["cameras"]["lane/1"]["query_ms"] == [7.0]


def test_a_look_that_fails_is_told_once_and_the_next_one_is_taken(service, monkeypatch, caplog):
    looks = 0
    well = threading.Event()

    def look(self):
        nonlocal looks
        looks += 1
        if looks < 4:
            raise OSError("no such process")
        well.set()

    monkeypatch.setattr(History, "take_sample", look)
    history = History(service, every_s=0.001)
    assert well.wait(20)
    assert [one.message for one in caplog.records] == ["the history of the last minutes lacks samples"]
    del history


# -- live, over a real connection ----------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path):
    """A demo at twice the clock's pace behind a real server, with a zone; its address and service."""
    with Service(fake_engines()) as service:
        privacy = PrivacySettings.model_validate({"zones": ZONE})
        service.add(CameraSettings("demo?speed=2&size=160x90", tmp_path, "lane", privacy=privacy))
        with HttpServer(service, "127.0.0.1:0") as server:
            running = threading.Thread(target=service.run)
            running.start()
            camera = service.camera()
            deadline = time.monotonic() + 30
            while camera.version.frames == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            yield f"{server.address}/api/v1/cameras/lane", service
            service.stop()
            running.join()


def parts(reply, count: int) -> list[tuple[float, bytes]]:
    """Time and JPEG of each of the first `count` parts."""
    found, data = [], b""
    for chunk in reply.iter_bytes():
        data += chunk
        while match := PART.match(data):
            end = match.end() + int(match[3])
            if len(data) < end + 2:
                break
            assert match[1].decode() == BOUNDARY and match[2] == b"Content-Type: image/jpeg"
            found.append((float(match[4]), data[match.end() : end]))
            data = data[end + 2 :]
        if len(found) >= count:
            break
    return found


def test_a_live_stream_shows_more_than_the_samples_and_no_pixel_of_a_zone(live):
    address, service = live
    with httpx.stream("GET", f"{address}/live.mjpg?fps=15&width=160", timeout=30) as reply:
        assert reply.headers["content-type"] == f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        assert len(service.camera().pictures.preview._rates) == 1
        got = parts(reply, 12)  # httpx hangs up when it is left
    times = [t for t, _ in got]
    assert times == sorted(set(times)) and sum(t % 1 > 0.01 for t in times) > len(times) / 2
    for _, jpeg in got:
        shown = picture_in(jpeg)
        assert shown[:, :78].max() < 40 and shown[:, 84:].max() > 60


def test_a_pause_ends_a_live_stream_and_whoever_goes_makes_room(live):
    address, service = live
    preview = service.camera().pictures.preview
    with httpx.stream("GET", f"{address}/live.mjpg", timeout=30) as reply:
        rest = reply.iter_bytes()
        assert next(rest)
        httpx.put(f"{address}/paused", content="true", headers={"X-LVM-Edge": "1"}).raise_for_status()
        assert sum(map(len, rest)) < 10e6  # it comes to its end
    deadline = time.monotonic() + 20
    while preview._rates and time.monotonic() < deadline:
        time.sleep(0.01)
    assert preview._rates == [] and preview.newest() is None
    assert httpx.get(f"{address}/latest.jpg").status_code == 404


def test_the_fifth_viewer_is_told_that_there_are_four(live):
    address, service = live
    with contextlib.ExitStack() as looking:
        for _ in range(MAX_VIEWERS):
            looking.enter_context(service.camera().pictures.preview.watch(1))
        reply = httpx.get(f"{address}/live.mjpg", timeout=30)
    assert reply.status_code == 503 and "at most 4 viewers" in reply.json()["error"]
    assert httpx.get(f"{address}/live.mjpg?fps=1000").status_code == 422


# -- the page's own files ------------------------------------------------------------------------------------


def test_the_page_comes_with_a_strict_policy_and_only_from_here(plain):
    reply = plain.get("/")
    assert reply.status_code == 200 and reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert plain.get("/", headers={"If-None-Match": reply.headers["ETag"]}).status_code == 304
    for name in files.page_files():
        assert plain.get(f"/page/{name}").status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "%2e%2e/files.py", "index.html%00", ""])
def test_what_is_no_file_of_the_page_is_not_read(plain, name):
    assert plain.get(f"/page/{name}").status_code == 404


def test_no_file_of_the_page_names_another_machine_or_holds_script_or_style_inline():
    for name, data in files.page_files().items():
        text = data.decode()
        named = text.replace("http://www.w3.org/", "")
        assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}/", named), name
        if name.endswith(".html"):
            assert not re.search(r"\s(on\w+|style)=|<style|<script(?![^>]*\ssrc=)", text)
        assert "innerHTML" not in text and ".style.cssText" not in text and "eval(" not in text
