"""Describe a camera to Home Assistant by four retained messages.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import re
from typing import Any

from edge_runtime.interfaces.mqtt.payloads import as_bytes
from edge_runtime.interfaces.mqtt.topics import Topics
from edge_runtime.system.release import read_version

ENTITIES = (
    ("binary_sensor", "connectivity"),
    ("sensor", "activity"),
    ("sensor", "frames_per_s"),
    ("switch", "paused"),
)
_CONNECTED = "{{ {'online': 'ON', 'paused': 'None', 'starting': 'None'}.get(value, 'OFF') }}"
"""Unknown while a camera is paused: a pause is no alarm."""
_ATTRIBUTES = "{{ (value_json if value_json is defined else {}) | tojson }}"
"""A removed state is an empty message; without this Home Assistant would go on showing what was forgotten."""


def discovery_topics(prefix: str, topics: Topics, camera: str) -> dict[str, str]:
    """Return the topic of each entity of a camera, by its name in topics."""
    node = _node(topics, camera)
    return {entity: f"{prefix}/{component}/{node}/{entity}/config" for component, entity in ENTITIES}


def discovery(
    prefix: str, topics: Topics, camera: str, display_name: str, stats_interval_s: float
) -> dict[str, bytes]:
    """Return payloads by topic. `camera` is the name in topics, `display_name` the one for people."""
    node = _node(topics, camera)
    common: dict[str, Any] = {
        "availability_topic": topics.available,
        "device": {
            "identifiers": [node],
            "name": display_name,
            "manufacturer": "lvm-edge",
            "model": "camera with a memory",
            "sw_version": read_version(),
        },
        "origin": {"name": "lvm-edge", "sw_version": read_version()},
    }
    own: dict[str, dict[str, Any]] = {
        "connectivity": {
            "name": "Connection",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": topics.camera_topic(camera, "status"),
            "value_template": _CONNECTED,
        },
        "activity": {
            "name": "Activity",
            "icon": "mdi:hand-extended",
            "state_topic": topics.camera_topic(camera, "activity"),
            "value_template": "{{ value_json.activity if value_json is defined else None }}",
            "json_attributes_topic": topics.camera_topic(camera, "activity"),
            "json_attributes_template": _ATTRIBUTES,
        },
        "frames_per_s": {
            "name": "Frames",
            "unit_of_measurement": "fps",
            "state_class": "measurement",
            "entity_category": "diagnostic",
            "state_topic": topics.stats,
            "value_template": f"{{{{ (value_json.cameras['{camera}'] | default({{}})).frames_per_s }}}}",
            "expire_after": round(3 * stats_interval_s) + 1,
        },
        "paused": {
            "name": "Privacy pause",
            "icon": "mdi:eye-off",
            "state_topic": topics.camera_topic(camera, "paused/state"),
            "command_topic": topics.camera_topic(camera, "paused/set"),
        },
    }
    where = discovery_topics(prefix, topics, camera)
    return {
        where[entity]: as_bytes(entity_fields | common | {"unique_id": f"{node}_{entity}"})
        for entity, entity_fields in own.items()
    }


def _node(topics: Topics, camera: str) -> str:
    """Return an id of letters, digits, _ and -, as Home Assistant requires."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', topics.prefix)}_{camera}"
