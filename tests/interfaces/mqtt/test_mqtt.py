"""What MQTT says and keeps, without a broker: names, bounds, payloads, refusals."""

import json
import re
import sys
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.outbox import MAX_STATES, Message, Outbox, StateOutbox
from edge_runtime.interfaces.mqtt.payloads import CameraView, as_bytes, read_cameras, stats
from edge_runtime.interfaces.mqtt.retained_states import RetainedStates
from edge_runtime.interfaces.mqtt.topics import RESERVED, TopicNames, Topics
from edge_runtime.service.events import Event
from engines.errors import Unavailable

TOPICS = Topics("lvm")
VIEW = CameraView("online", False, 3, 1.0, {})
WEIRD = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        ["a/b", "a+b", "a#b", "a b", "stats", "events", "+", "#", "/", "", "a_b", "ä", "x" * 300]
    ),
)


@given(st.lists(WEIRD, unique=True, max_size=30))
def test_cameras_of_any_name_get_topics_of_their_own(cameras):
    names = TopicNames()
    safe = [names.safe_name(camera) for camera in cameras]
    assert len(set(safe)) == len(safe) and not RESERVED & set(safe)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in safe)
    assert [names.safe_name(camera) for camera in reversed(cameras)] == safe[::-1]
    assert [names.camera(name) for name in safe] == cameras
    for name in safe:
        assert TOPICS.paused_camera(TOPICS.camera_topic(name, "paused/set")) == name


def test_names_that_fit_stay_as_they_are():
    names = TopicNames()
    assert [names.safe_name(name) for name in ("lane1", "Lane-2_b", "camera 0", "camera_0")] == [
        "lane1", "Lane-2_b", "camera_0", "camera_0_" + names.safe_name("camera_0")[-8:],
    ]  # fmt: skip


@given(st.text(max_size=60))
def test_no_answer_goes_where_somebody_listens_or_outside(topic):
    assert not TOPICS.may_answer_at(topic)
    below = f"lvm/query/response/{topic}"
    fits = topic.isprintable() and not set("+#") & set(topic)
    assert TOPICS.may_answer_at(below) == fits
    for ours in ("query/request", f"{topic.replace('/', '')}/paused/set"):
        assert not TOPICS.may_answer_at(f"lvm/{ours}", ["lvm"]) or ours == "/paused/set"


@example(most=2, most_bytes=80, steps=[0, 72, "take", 1, "back"])
@given(
    st.integers(1, 6),
    st.integers(20, 200),
    st.lists(st.one_of(st.integers(0, 120), st.sampled_from(["take", "done", "back"])), max_size=60),
)
def test_a_line_never_holds_more_than_it_may_and_keeps_the_newest_in_order(most, most_bytes, steps):
    line, put, taken, sent = Outbox(most, most_bytes), 0, None, 0
    for step in steps:
        if step == "take" and taken is None:
            taken = line.take()
        elif step == "done" and taken is not None:
            line.done()
            taken, sent = None, sent + 1
        elif step == "back" and taken is not None:
            line.give_back(taken)
            taken = None
        elif isinstance(step, int):
            line.put(Message(f"{put:04}", bytes(step)))
            put += 1
        assert len(line) <= most and line.bytes <= most_bytes
        assert line.sent == sent and put == sent + line.dropped + len(line) + (taken is not None)
    left = []
    while (message := line.take()) is not None:
        left.append(int(message.topic))
    assert left == sorted(left) and line.bytes == 0
    if left:
        assert left == list(range(left[0], put))


def test_states_tell_only_the_newest_and_all_again_when_asked():
    states = StateOutbox()
    for payload in (b"1", b"2", b"3"):
        states.set("a", payload)
    states.set("b", b"x")
    first = states.take()
    assert first.payload == b"3" and first.retain
    states.set("a", b"4")  # while the broker confirms what it was told
    states.done(first)
    second = states.take()
    assert (second.topic, second.payload) == ("a", b"4")
    states.done(second)
    states.set("b", b"")  # never told, taken back all the same: an earlier run may have
    gone = states.take()
    assert (gone.topic, gone.payload) == ("b", b"")
    states.done(gone)
    assert states.take() is None and list(states) == ["a"]
    states.mark_all()
    assert states.take().payload == b"4"


def test_states_stay_bounded_when_cameras_come_and_go_with_no_broker():
    board = RetainedStates(MqttSettings(discovery={"enabled": True}), TOPICS, TopicNames())
    for number in range(3000):
        board.update({"stays": VIEW, f"camera{number}": VIEW})
    kept = list(board.outbox)
    assert len(kept) <= MAX_STATES and "lvm/stays/status" in kept and "lvm/camera2999/status" in kept


def _row(number: int, begun: float, **more) -> dict:
    return {"id": number, "camera": "a", "activity": f"n{number}", "from_at": begun, **more}


def test_the_newest_activity_is_kept_and_a_forgotten_one_taken_back():
    board = RetainedStates(MqttSettings(), TOPICS, TopicNames())
    board.update({"a": VIEW})

    def told(kind, before, after) -> str | None:
        board.apply_event(Event("activity", kind, "a", before, after))
        payload = board.outbox.get("lvm/a/activity")
        return json.loads(payload)["activity"] if payload else None

    assert told("new", None, _row(1, 10.0)) == "n1"
    assert told("new", None, _row(2, 20.0)) == "n2"
    assert told("end", _row(1, 10.0), _row(1, 10.0, to_at=12.0)) == "n2"  # of the older one
    assert told("end", _row(1, 10.0), None) == "n2"
    assert told("end", _row(2, 20.0), None) is None
    assert told("new", None, _row(4, 5.0)) == "n4"
    board.apply_event(Event("privacy", "update", "a", None, {"forgotten": True}))
    assert board.outbox.get("lvm/a/activity") == b""
    board.apply_event(Event("activity", "new", "gone", None, _row(3, 30.0)))
    assert "lvm/gone/activity" not in list(board.outbox)


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b"{}", b'{"client_id": 1, "cameras": {"x": 1}}', b"[" * 9999, b"\xff",
     b'{"client_id": "other", "cameras": {"x": "x"}}',
     b'{"client_id": "me", "cameras": {"../x": 1, "a/b": 1, "+": 1}}',
     b'{"client_id": "me", "cameras": [1]}'],
)  # fmt: skip
def test_a_listing_that_is_none_of_ours_takes_nothing_back(payload):
    board = RetainedStates(MqttSettings(client_id="me"), TOPICS, TopicNames())
    board.update({"a": VIEW})
    before = {topic: board.outbox.get(topic) for topic in board.outbox}
    board.take_listing(payload)
    assert {topic: board.outbox.get(topic) for topic in board.outbox} == before


def test_a_camera_that_is_called_like_none_before_leaves_with_everything():
    settings = MqttSettings(client_id="me", discovery={"enabled": True})
    board = RetainedStates(settings, TOPICS, TopicNames())
    board.update({"a": VIEW, "b": replace(VIEW, paused=True)})
    there = [topic for topic in board.outbox if "b" in topic.split("/") or "lvm_b" in topic]
    assert len(there) == 6 and board.outbox.get("lvm/b/paused/state") == b"ON"
    board.update({"a": VIEW})
    assert all(board.outbox.get(topic) == b"" for topic in [*there, "lvm/b/activity"])
    assert json.loads(board.outbox.get("lvm/cameras"))["cameras"] == {"a": "a"}


def test_a_camera_whose_disk_is_late_keeps_its_topics_and_is_said_to_be_offline(watch, settings):
    service, late, names = watch(), settings("late"), {"lane": "lane", "late": "late"}
    late.state.write_text("in the way")
    service.add(settings("lane"))
    assert service.pending.try_add(late) is not None
    mqtt = MqttSettings(client_id="me", discovery={"enabled": True})
    board = RetainedStates(mqtt, TOPICS, TopicNames())
    before = read_cameras(service)
    board.update(before)
    # What an earlier run left at the broker is not taken back.
    board.take_listing(as_bytes({"client_id": "me", "discovery": True, "cameras": {"late": "late"}}))
    assert board.outbox.get("lvm/late/status") == b"offline"
    assert b"late" in board.outbox.get("homeassistant/switch/lvm_late/paused/config")
    told = json.loads(stats(read_cameras(service), before, names, {}))["cameras"]["late"]
    assert told["condition"] == "awaited" and "cannot be written" in told["error"]
    assert told["frames_per_s"] is None
    late.state.unlink()
    assert service.pending.try_add(late) is None
    now = read_cameras(service)
    board.update(now)
    assert list(now) == ["lane", "late"] and board.outbox.get("lvm/late/status") == b"starting"
    told = json.loads(stats(now, before, names, {}))["cameras"]
    # What it remembers from before are no frames of this minute.
    assert told["late"]["frames_per_s"] is None and told["lane"]["frames_per_s"] == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"topic_prefix": "a/+"}, "topic prefix"),
        ({"topic_prefix": "/a"}, "topic prefix"),
        ({"topic_prefix": "$SYS"}, "topic prefix"),
        ({"response_topics": ["#"]}, "topic prefix"),
        ({"password": "x"}, "password needs username"),
        ({"tls": {"key": "k.pem"}}, "key needs cert"),
        ({"client_id": "a b"}, "pattern"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"passwort": "x"}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        MqttSettings.model_validate(given)


def test_a_password_shows_nowhere_in_the_settings():
    settings = MqttSettings(username="kiosk", password="pass/w0rd")
    assert "w0rd" not in repr(settings) + settings.model_dump_json() + str(settings.model_dump())
    assert settings.address == "mqtt://localhost:1883"
    assert MqttSettings(host="::1", tls={}).address == "mqtts://[::1]:8883"


def test_without_its_package_it_says_how_to_get_it(monkeypatch):
    from edge_runtime.interfaces.mqtt.client import MqttClient

    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    monkeypatch.delitem(sys.modules, "edge_runtime.interfaces.mqtt.connection", raising=False)
    import edge_runtime.interfaces.mqtt

    monkeypatch.delattr(edge_runtime.interfaces.mqtt, "connection", raising=False)
    with pytest.raises(Unavailable, match=r'MQTT needs the package aiomqtt: pip install "lvm-edge\[mqtt\]"'):
        MqttClient(None, MqttSettings())


def test_home_assistant_reads_from_real_payloads_what_it_is_told_to():
    jinja2 = pytest.importorskip("jinja2", reason="jinja2, which Home Assistant's templates are, is not here")
    board = RetainedStates(MqttSettings(discovery={"enabled": True}), TOPICS, TopicNames())
    board.update({"camera 0": VIEW})
    said = {topic: json.loads(board.outbox.get(topic)) for topic in board.outbox if "/config" in topic}
    assert {topic.split("/")[1] for topic in said} == {"binary_sensor", "sensor", "switch"} and len(said) == 4
    assert len({one["unique_id"] for one in said.values()}) == 4
    for one in said.values():
        assert one["availability_topic"] == "lvm/available"
        assert one["device"]["identifiers"] == ["lvm_camera_0"] and one["device"]["name"] == "camera 0"

    def read(entity: str, payload: str, what: str = "value_template") -> str:
        template = said[f"homeassistant/{entity}/config"][what]
        try:
            more = {"value_json": json.loads(payload)}
        except ValueError:
            more = {}
        return jinja2.Environment().from_string(template).render(value=payload, **more)

    connectivity = "binary_sensor/lvm_camera_0/connectivity"
    unknown = dict.fromkeys(("paused", "starting"), "None")
    words = {"online": "ON"} | dict.fromkeys(("offline", "failed", "ended", "stopped"), "OFF") | unknown
    assert {word: read(connectivity, word) for word in words} == words
    activity, row = "sensor/lvm_camera_0/activity", '{"activity": "scan"}'
    assert read(activity, row) == "scan"
    assert json.loads(read(activity, row, "json_attributes_template")) == json.loads(row)
    # Forgotten: an empty message must become an object, which alone empties what is shown.
    assert read(activity, "") == "None" and read(activity, "", "json_attributes_template") == "{}"
    frames = "sensor/lvm_camera_0/frames_per_s"
    assert read(frames, '{"cameras": {"camera_0": {"frames_per_s": 3.98}}}') == "3.98"
    assert read(frames, '{"cameras": {}}') == ""
