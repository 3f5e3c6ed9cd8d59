"""The newest lines of the log over HTTP: masked, bounded, forgotten, for admins."""

import logging
import time

import pytest
from fastapi.testclient import TestClient

from edge_runtime.config.access_tokens import ROLES, hash_token
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.service.run import Run
from edge_runtime.system.logs import MAX_RECENT, LogSettings, recent_log, set_up_logging
from edge_runtime.system.secrets import register_secret
from tools.fuzzing.small import small_service

TOKENS = {role: f"lvm_{role}-0123456789abcdefghijklmnopqrstuvwxyz" for role in ROLES}
log = logging.getLogger("edge_runtime.test")


@pytest.fixture
def service(tmp_path):
    with small_service(tmp_path) as service:
        set_up_logging()
        yield service


@pytest.fixture
def client(service):
    return TestClient(make_app(service))


def lines(client, **parameters):
    return client.get("/api/v1/log", params=parameters).json()["lines"]


def test_lines_come_oldest_first_with_their_time_level_and_logger(client):
    log.warning("first of %d", 2)
    log.error("second")
    log.info("below the level")
    found = client.get("/api/v1/log").json()
    assert found["level"] == "warning"
    first, second = found["lines"]
    assert (first["level"], first["logger"], first["message"]) == (
        "warning",
        "edge_runtime.test",
        "first of 2",
    )
    assert second["message"] == "second" and abs(second["at"] - time.time()) < 60
    assert [line["message"] for line in lines(client, limit=1)] == ["second"]


@pytest.mark.parametrize(
    "limit, status", [(0, 422), (-1, 422), (MAX_RECENT, 200), (MAX_RECENT + 1, 422), ("x", 422)]
)
def test_the_number_of_lines_is_bounded(client, limit, status):
    assert client.get("/api/v1/log", params={"limit": limit}).status_code == status


def test_only_the_newest_records_are_kept(client):
    for number in range(MAX_RECENT + 20):
        log.warning("line %d", number)
    found = lines(client, limit=MAX_RECENT)
    assert len(found) == MAX_RECENT and found[0]["message"] == "line 20"


@pytest.mark.parametrize(
    "message",
    [
        "rtsp://kiosk:hunter2hunter2@10.0.0.5/live is gone",
        "https://10.0.0.5/x?token=hunter2hunter2",
        "password=hunter2hunter2 is wrong",
    ],
)
def test_no_line_has_a_secret(client, message):
    log.warning(message)
    assert "hunter2" not in client.get("/api/v1/log").text


def test_a_secret_that_is_known_later_is_masked_too(client):
    log.warning("it said swordfish-of-the-sea")
    assert "swordfish" in client.get("/api/v1/log").text
    register_secret("swordfish-of-the-sea")
    assert "swordfish" not in client.get("/api/v1/log").text


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_log_is_for_admins(service, role, method):
    tokens = [{"name": role, "role": role, "token_hash": hash_token(token)} for role, token in TOKENS.items()]
    settings = Config.model_validate({"http": {"tokens": tokens}})
    client = TestClient(make_app(service, Run(service, settings)))
    headers = {"Authorization": f"Bearer {TOKENS[role]}"}
    status = client.request(method, "/api/v1/log", headers=headers).status_code
    assert status == (200 if role == "admin" else 403)


def test_what_is_forgotten_leaves_the_log(client):
    recent = recent_log()
    log.warning("before")
    start = time.time()
    time.sleep(0.01)
    log.warning("within")
    time.sleep(0.01)
    end = time.time()
    log.warning("after")
    assert recent.forget(start, end) == 1
    assert [line["message"] for line in lines(client)] == ["before", "after"]


def test_without_a_log_there_are_no_lines(tmp_path):
    for handler in list(logging.getLogger().handlers):
        if getattr(handler, "of_lvm_edge", False):
            logging.getLogger().removeHandler(handler)
    with small_service(tmp_path) as service:
        assert TestClient(make_app(service)).get("/api/v1/log").json()["lines"] == []


def test_a_second_set_up_takes_the_place_of_the_first(client):
    set_up_logging(LogSettings(level="error"))
    log.warning("too little")
    log.error("enough")
    found = client.get("/api/v1/log").json()
    assert found["level"] == "error" and [line["message"] for line in found["lines"]] == ["enough"]
