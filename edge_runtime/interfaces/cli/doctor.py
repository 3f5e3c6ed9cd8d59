"""`lvm-edge doctor`: list what this machine has and lacks, and what to do; exit status 4 for a problem."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.table import Table

from edge_runtime.config.paths import default_bundle, state_root
from edge_runtime.interfaces.cli.options import BundleFolder
from edge_runtime.interfaces.cli.tables import print_table
from edge_runtime.interfaces.doctor.machine import Finding
from edge_runtime.system.text import printable
from engines.bundle import Bundle
from engines.errors import Unavailable
from engines.select import choose, find_backend_problems, usable_cores

MARKS = {"ok": "ok  ", "note": "note", "problem": "BAD "}
_PACKAGES = (
    "numpy", "onnxruntime", "opencv-python-headless", "av", "openvino", "tensorrt", "cuda-bindings", "pycuda",
    "torch",
)  # fmt: skip


def doctor(
    bundle: BundleFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="as one JSON object")] = False,
) -> None:
    """Check the machine, the packages, the cameras, the backends and the bundle, and say what to do."""
    from edge_runtime.interfaces.doctor.checks import run_checks

    facts = _describe_machine() | {
        "packages": _package_versions(),
        "cameras": sorted(str(path) for path in Path("/dev").glob("video*")),
        "gstreamer": _gstreamer_status(),
    }
    opened = Bundle.open(bundle or default_bundle())
    manifest = opened.manifest
    choice = choose("auto", manifest)
    facts |= {
        "backends": {name: reason or "ready" for name, reason in find_backend_problems(manifest).items()},
        "auto": choice.backend,
        "why": choice.why,
        "bundle": {
            "path": str(opened.path),
            "name": manifest.name,
            "trained": manifest.training.trained,
            "bytes": sum(record.bytes for record in manifest.files.values()),
            "memory_tokens": manifest.network.memory_tokens,
            "targets": sorted(manifest.graphs),
        },
    }
    findings = list(run_checks(opened.path, find_backend_problems(manifest), state_root()))
    if as_json:
        print(json.dumps(facts | {"findings": [finding.as_json() for finding in findings]}))
    else:
        _print(facts, findings)
    problems = [finding for finding in findings if finding.state == "problem"]
    if problems:
        raise Unavailable("; ".join(f"{problem.what}: {problem.found}" for problem in problems))


def _print(facts: dict[str, Any], findings: Sequence[Finding]) -> None:
    table = Table.grid(padding=(0, 3))
    for name, value in facts.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for row, (key, fact) in enumerate(rows):
            words = ", ".join(fact) or "none" if isinstance(fact, list) else str(fact)
            table.add_row(name if row == 0 else "", str(key), words)
    print_table(table)
    print()
    for finding in findings:
        print(printable(f"{MARKS[finding.state]} {finding.what}: {finding.found}"))
        if finding.do is not None:
            print(printable(f"     {finding.do}"))


def _describe_machine() -> dict[str, Any]:
    release = Path("/etc/nv_tegra_release")
    disk = shutil.disk_usage(state_root().anchor or "/")
    return {
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "jetpack": release.read_text().splitlines()[0] if release.exists() else "no Jetson",
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "free_disk_bytes": disk.free,
        "state_root": str(state_root()),
    }


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _gstreamer_status() -> str:
    from edge_runtime.sources.base import Unsupported
    from edge_runtime.sources.gstreamer import find_gstreamer

    try:
        find_gstreamer()
    except Unsupported:
        return "not there for this Python: no gst: or csi://"
    return "found"
