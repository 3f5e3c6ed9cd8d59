"""The machine: disk, memory, clock, power, the port, systemd, decoders. Nothing is changed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from edge_runtime.interfaces.doctor.finding import Finding

LEAST_DISK = 100e6
FEW_DISK = 1e9
LEAST_MEMORY = 500e6
HOT_C = 85.0
_TOLD_S = 3.0


def disk(root: Path) -> Finding:
    """The place of the memories: room, and whether it can be written."""
    there = next(one for one in (root, *root.parents) if one.exists())
    free = shutil.disk_usage(there).free
    shown = f"{free / 1e9:.1f} GB free for {root}"
    if not os.access(there, os.W_OK | os.X_OK):
        do = "name another place with LVM_EDGE_STATE or --state, or give this user the folder"
        return Finding("disk", "problem", f"{there} cannot be written by this user", do)
    if free < LEAST_DISK:
        return Finding("disk", "problem", shown, "free some: a memory takes a few MB, with its journal")
    return Finding("disk", "note" if free < FEW_DISK else "ok", shown)


def memory() -> Finding:
    free = psutil.virtual_memory().available
    shown = f"{free / 1e9:.1f} GB available"
    if free < LEAST_MEMORY:
        return Finding("memory", "note", shown, "stop other programs: the default bundle takes about 0.2 GB")
    return Finding("memory", "ok", shown)


def clock() -> Finding:
    """A camera's seconds do not need the right time; what people say and read (18:30) does."""
    said = told(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    if said is None:
        return Finding("clock", "note", "nobody here says whether it is right (timedatectl gives no answer)")
    if said != "yes":
        do = "sudo timedatectl set-ntp true, or set it by hand where there is no network"
        return Finding("clock", "note", "not synchronised: times of day may be wrong", do)
    return Finding("clock", "ok", "synchronised")


def power(system: Path = Path("/sys")) -> Iterator[Finding]:
    """What makes it slower than it need be: a power mode, a governor, heat."""
    mode = told(["nvpmodel", "-q"])
    if mode is not None:
        name = mode.splitlines()[0].rpartition(":")[2].strip() if mode else "unknown"
        full = name.upper().startswith("MAXN")
        do = None if full else "sudo nvpmodel -m 0 && sudo jetson_clocks, where heat and supply allow it"
        yield Finding("power mode", "ok" if full else "note", name, do)
    governor = _text(system / "devices/system/cpu/cpu0/cpufreq/scaling_governor")
    driver = _text(system / "devices/system/cpu/cpu0/cpufreq/scaling_driver")
    if governor:
        slow = governor == "powersave" and "pstate" not in driver  # there it means: as needed
        do = "sudo cpupower frequency-set -g schedutil" if slow else None
        yield Finding("cpu governor", "note" if slow else "ok", governor, do)
    hottest = max(
        (one.current for group in psutil.sensors_temperatures().values() for one in group), default=None
    )
    if hottest is not None:
        hot = hottest >= HOT_C
        do = "give it air: a hot machine slows down" if hot else None
        yield Finding("temperature", "note" if hot else "ok", f"{hottest:.0f} degrees Celsius", do)


def port(host: str = "127.0.0.1", number: int = 8971) -> Finding:
    """The HTTP door's: free, or whose."""
    try:
        with socket.create_connection((host, number), timeout=1):
            pass
    except OSError:
        return Finding("port", "ok", f"{host}:{number} is free")
    do = "that is lvm-edge, if one runs; else choose another port with --http or http.listen"
    return Finding("port", "note", f"somebody listens at {host}:{number}", do)


def service(root: Path = Path("/")) -> Finding:
    if not (root / "run/systemd/system").is_dir():
        return Finding(
            "systemd", "note", "it does not run this machine", "start lvm-edge by other means at boot"
        )
    if not (root / "etc/systemd/system/lvm-edge.service").exists():
        return Finding(
            "systemd", "note", "lvm-edge is no service here", "docs/unattended.md tells how it becomes one"
        )
    return Finding("systemd", "ok", "lvm-edge.service is there")


def decoders() -> Finding:
    import av

    versions = {name: ".".join(map(str, one)) for name, one in av.library_versions.items()}
    return Finding(
        "video decoder", "ok", f"av {av.__version__}, libavcodec {versions.get('libavcodec', '?')}"
    )


def told(command: list[str]) -> str | None:
    """What a program of the system prints; None where there is none, or it fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOLD_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
