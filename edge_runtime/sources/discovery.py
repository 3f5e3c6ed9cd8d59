"""List the cameras of this machine from what the system knows about them; none is opened."""

from __future__ import annotations

import grp
import os
import re
from dataclasses import dataclass
from pathlib import Path

_DEV, _SYSTEM = Path("/dev"), Path("/sys/class/video4linux")


@dataclass(frozen=True)
class CameraDevice:
    """A camera: what to give as `source`, its name, and a problem with its remedy where it cannot be used."""

    source: str
    path: str
    name: str
    problem: str | None = None
    remedy: str | None = None


def list_cameras(dev: Path = _DEV, system: Path = _SYSTEM) -> list[CameraDevice]:
    """Return every camera once: a device's other nodes (metadata, other formats) are left out."""
    cameras = []
    for path in sorted(dev.glob("video*"), key=lambda path: _parse_number(path.name)):
        about = system / path.name
        if _read_text(about / "index") not in ("", "0"):
            continue
        name = _read_text(about / "name") or "a camera without a name"
        # Jetson's own capture driver gives raw sensor data; its pictures come through GStreamer.
        csi = name.startswith("vi-output")
        source = f"csi://{_parse_number(path.name)}" if csi else str(_parse_number(path.name))
        problem, remedy = (None, None) if os.access(path, os.R_OK | os.W_OK) else _explain_denied(path)
        cameras.append(CameraDevice(source, str(path), name, problem, remedy))
    return cameras


def _explain_denied(path: Path) -> tuple[str, str]:
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (KeyError, OSError):
        group = "video"
    return "this user may not open it", f"sudo usermod -aG {group} $USER, then log in again"


def _parse_number(name: str) -> int:
    digits = re.search(r"\d+$", name)
    return int(digits.group()) if digits else 0


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
