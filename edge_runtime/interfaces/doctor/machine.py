"""Check the machine: disk, memory, clock, power, the port, systemd and decoders. Changes nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

MIN_DISK_BYTES = 100e6
LOW_DISK_BYTES = 1e9
MIN_MEMORY_BYTES = 500e6
HOT_C = 85.0
_COMMAND_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Finding:
    """The result of a check: `what` was checked, what was `found` and what to `do`.

    `state`: "ok"; "note", it works, but there is something to know; "problem", something will not work.
    """

    what: str
    state: Literal["ok", "note", "problem"]
    found: str
    do: str | None = None

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


def check_disk(root: Path) -> Finding:
    """Check the folder of the memories: free space, and whether it can be written."""
    existing = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1e9:.1f} GB free for {root}"
    if not os.access(existing, os.W_OK | os.X_OK):
        do = "name another folder with LVM_EDGE_STATE or --state, or let this user write to it"
        return Finding("disk", "problem", f"{existing} cannot be written by this user", do)
    if free < MIN_DISK_BYTES:
        return Finding("disk", "problem", text, "free some space: a memory takes up to 200 MB with journals")
    return Finding("disk", "note" if free < LOW_DISK_BYTES else "ok", text)


def check_memory() -> Finding:
    free = psutil.virtual_memory().available
    text = f"{free / 1e9:.1f} GB available"
    if free < MIN_MEMORY_BYTES:
        return Finding("memory", "note", text, "stop other programs: the default bundle takes about 0.4 GB")
    return Finding("memory", "ok", text)


def check_clock() -> Finding:
    """Check the system clock. Only times of day (18:30) need it; a camera's seconds do not."""
    synchronised = run_command(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    if synchronised is None:
        return Finding("clock", "note", "unknown whether it is right (timedatectl gives no answer)")
    if synchronised != "yes":
        do = "sudo timedatectl set-ntp true, or set it by hand where there is no network"
        return Finding("clock", "note", "not synchronised: times of day may be wrong", do)
    return Finding("clock", "ok", "synchronised")


def check_power(system: Path = Path("/sys")) -> Iterator[Finding]:
    """Check what may slow the machine down: power mode, CPU governor, temperature."""
    mode = run_command(["nvpmodel", "-q"])
    if mode is not None:
        name = mode.splitlines()[0].rpartition(":")[2].strip() if mode else "unknown"
        full = name.upper().startswith("MAXN")
        do = None if full else "sudo nvpmodel -m 0 && sudo jetson_clocks, where heat and supply allow it"
        yield Finding("power mode", "ok" if full else "note", name, do)
    governor = _read_text(system / "devices/system/cpu/cpu0/cpufreq/scaling_governor")
    driver = _read_text(system / "devices/system/cpu/cpu0/cpufreq/scaling_driver")
    if governor:
        slow = (
            governor == "powersave" and "pstate" not in driver
        )  # with intel_pstate, "powersave" scales with the load
        do = "sudo cpupower frequency-set -g schedutil" if slow else None
        yield Finding("cpu governor", "note" if slow else "ok", governor, do)
    hottest = max(
        (sensor.current for group in psutil.sensors_temperatures().values() for sensor in group), default=None
    )
    if hottest is not None:
        hot = hottest >= HOT_C
        do = "cool it: a hot machine slows down" if hot else None
        yield Finding("temperature", "note" if hot else "ok", f"{hottest:.0f} degrees Celsius", do)


def check_port(host: str = "127.0.0.1", number: int = 8971) -> Finding:
    """Check whether the default port of the HTTP server is free."""
    try:
        with socket.create_connection((host, number), timeout=1):
            pass
    except OSError:
        return Finding("port", "ok", f"{host}:{number} is free")
    do = "this may be a running lvm-edge; if not, choose another port with --http or http.listen"
    return Finding("port", "note", f"in use: a program listens at {host}:{number}", do)


def check_service(root: Path = Path("/")) -> Finding:
    if not (root / "run/systemd/system").is_dir():
        return Finding("systemd", "note", "not the init system here", "start lvm-edge at boot by other means")
    if not (root / "etc/systemd/system/lvm-edge.service").exists():
        return Finding(
            "systemd", "note", "lvm-edge is not a service here", "docs/unattended.md says how to make it one"
        )
    return Finding("systemd", "ok", "lvm-edge.service is installed")


def check_decoders() -> Finding:
    import av

    versions = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return Finding(
        "video decoder", "ok", f"av {av.__version__}, libavcodec {versions.get('libavcodec', '?')}"
    )


def run_command(command: list[str]) -> str | None:
    """Return what a program prints, or None if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip() if process.returncode == 0 else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
