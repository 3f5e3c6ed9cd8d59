"""The cameras of this machine, by what the system says of them; none is opened."""

from __future__ import annotations

import grp
import os
import re
from dataclasses import dataclass
from pathlib import Path

_DEV, _SYSTEM = Path("/dev"), Path("/sys/class/video4linux")


@dataclass(frozen=True)
class Present:
    """A camera: what to write as its `source`, its name, and what is in the way, with what to do about it."""

    source: str
    path: str
    name: str
    problem: str | None = None
    remedy: str | None = None


def present(dev: Path = _DEV, system: Path = _SYSTEM) -> list[Present]:
    """Every camera once: a device's further nodes (metadata, other formats) are left out."""
    found = []
    for path in sorted(dev.glob("video*"), key=lambda path: _number(path.name)):
        about = system / path.name
        if _text(about / "index") not in ("", "0"):
            continue
        name = _text(about / "name") or "a camera without a name"
        # Behind Jetson's own capture driver lie raw sensors: their pictures come through GStreamer.
        csi = name.startswith("vi-output")
        source = f"csi://{_number(path.name)}" if csi else str(_number(path.name))
        problem, remedy = (None, None) if os.access(path, os.R_OK | os.W_OK) else _refused(path)
        found.append(Present(source, str(path), name, problem, remedy))
    return found


def _refused(path: Path) -> tuple[str, str]:
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (KeyError, OSError):
        group = "video"
    return "this user may not open it", f"sudo usermod -aG {group} $USER, then log in again"


def _number(name: str) -> int:
    digits = re.search(r"\d+$", name)
    return int(digits.group()) if digits else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
