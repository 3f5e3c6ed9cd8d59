"""Run all checks: cameras, machine, backends, and a self-test of the bundle."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edge_runtime.interfaces.doctor import machine
from edge_runtime.interfaces.doctor.machine import Finding
from edge_runtime.interfaces.python.memory import Memory
from edge_runtime.sources.base import Unsupported
from edge_runtime.sources.discovery import CameraDevice, list_cameras
from edge_runtime.sources.gstreamer import find_gstreamer
from engines.errors import LvmError


def run_checks(bundle: Path, backends: Mapping[str, str | None], root: Path) -> Iterator[Finding]:
    """Yield all findings. `backends`: why each is not ready, else None; `root`: the folder of the states."""
    yield from check_cameras(list_cameras())
    yield machine.check_decoders()
    yield check_gstreamer()
    yield machine.check_disk(root)
    yield machine.check_memory()
    yield machine.check_clock()
    yield from machine.check_power()
    yield machine.check_port()
    yield machine.check_service()
    yield from check_backends(backends)
    yield run_self_test(bundle)


def check_cameras(devices: list[CameraDevice]) -> Iterator[Finding]:
    if not devices:
        do = "connect one, or watch a network camera, a file or --source demo"
        yield Finding("camera", "note", "no /dev/video* at all", do)
    for device in devices:
        text = f"{device.name} at {device.path}"
        if device.problem is None:
            yield Finding("camera", "ok", text, f"lvm-edge run --source {device.source}")
        else:
            yield Finding("camera", "problem", f"{text}: {device.problem}", device.remedy)


def check_gstreamer() -> Finding:
    try:
        find_gstreamer()
    except Unsupported as error:
        return Finding("gstreamer", "note", "no gst: or csi:// source can be opened", str(error))
    return Finding("gstreamer", "ok", "found, for gst: and csi:// sources")


def check_backends(backends: Mapping[str, str | None]) -> Iterator[Finding]:
    for name, missing in backends.items():
        yield Finding("backend", "ok" if missing is None else "note", f"{name}: {missing or 'ready'}")


def run_self_test(bundle: Path) -> Finding:
    """Check that the bundle remembers and answers on the best backend of this machine."""
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    try:
        with Memory(bundle) as memory:
            for second in range(4):
                memory.push(rng.integers(0, 255, (120, 160, 3), np.uint8), second)
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
