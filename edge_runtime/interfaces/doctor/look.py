"""Everything that is looked at, in the order in which a person would."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edge_runtime.interfaces.doctor import machine
from edge_runtime.interfaces.doctor.finding import Finding
from edge_runtime.interfaces.python.memory import Memory
from edge_runtime.sources.base import Unsupported
from edge_runtime.sources.discovery import CameraDevice, list_cameras
from edge_runtime.sources.gstreamer import find_gstreamer
from engines.errors import LvmError


def look(bundle: Path, backends: Mapping[str, str | None], root: Path) -> Iterator[Finding]:
    """`backends` are those that there are, each with why it is not ready; `root` is where memories lie."""
    yield from cameras(list_cameras())
    yield machine.decoders()
    yield gstreamer()
    yield machine.disk(root)
    yield machine.memory()
    yield machine.clock()
    yield from machine.power()
    yield machine.port()
    yield machine.service()
    yield from engines(backends)
    yield self_test(bundle)


def cameras(found: list[CameraDevice]) -> Iterator[Finding]:
    if not found:
        do = "plug one in, or watch a network camera, a file or --source demo"
        yield Finding("camera", "note", "no /dev/video* at all", do)
    for one in found:
        shown = f"{one.name} at {one.path}"
        if one.problem is None:
            yield Finding("camera", "ok", shown, f"lvm-edge run --source {one.source}")
        else:
            yield Finding("camera", "problem", f"{shown}: {one.problem}", one.remedy)


def gstreamer() -> Finding:
    try:
        find_gstreamer()
    except Unsupported as error:
        return Finding("gstreamer", "note", "no gst: or csi:// source can be opened", str(error))
    return Finding("gstreamer", "ok", "found, for gst: and csi:// sources")


def engines(backends: Mapping[str, str | None]) -> Iterator[Finding]:
    for name, missing in backends.items():
        yield Finding("backend", "ok" if missing is None else "note", f"{name}: {missing or 'ready'}")


def self_test(bundle: Path) -> Finding:
    """Whether the bundle remembers and answers here, as the best backend runs it."""
    noise = np.random.default_rng(0)
    started = time.perf_counter()
    try:
        with Memory(bundle) as memory:
            for second in range(4):
                memory.push(noise.integers(0, 255, (120, 160, 3), np.uint8), second)
            answer = memory.object(memory.activities[0])
            if memory.version.frames != 4 or not 0 <= answer.confidence <= 1:
                raise LvmError(f"{memory.version.frames} of 4 pictures were remembered: {answer.answer}")
    except LvmError as error:
        return Finding(
            "self-test", "problem", str(error), "try another --backend, or export the bundle again"
        )
    seconds = time.perf_counter() - started
    return Finding(
        "self-test", "ok", f"4 pictures remembered and a question answered, {seconds:.1f} s in all"
    )
