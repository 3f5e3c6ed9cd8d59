"""A broker and a service for the tests of MQTT."""

import pytest

from tests.support.broker import Broker, need_mosquitto
from tests.support.mqtt_service import open_service


@pytest.fixture
def broker(tmp_path):
    """Return a broker of its own; skips where mosquitto is missing."""
    need_mosquitto()
    with Broker(tmp_path) as one:
        yield one


@pytest.fixture
def service(tmp_path, monkeypatch):
    with open_service(tmp_path, monkeypatch) as one:
        yield one
