"""Bytes of a plan: a line that says what it is, what it was built with, and the graph with its weights."""

from __future__ import annotations

import json
from typing import Any

_MAGIC = b"FAKE PLAN\n"


class HostMemory(bytes):
    """IHostMemory: what matters of it is that bytes() copies it."""


def packed(head: dict[str, Any], model: bytes) -> HostMemory:
    return HostMemory(_MAGIC + json.dumps(head).encode() + b"\n" + model)


def unpacked(plan: bytes) -> tuple[dict[str, Any], bytes] | None:
    """What it was built with and its graph; None for what is no plan."""
    if not plan.startswith(_MAGIC):
        return None
    head, _, model = plan.removeprefix(_MAGIC).partition(b"\n")
    return json.loads(head), model


def plan_head(plan: bytes) -> dict[str, Any]:
    """What a fake plan was built with."""
    found = unpacked(plan)
    assert found is not None, "these bytes are no plan"
    return found[0]
