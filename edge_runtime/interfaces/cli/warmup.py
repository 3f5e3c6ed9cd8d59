"""`lvm-edge warmup`: build TensorRT plans before the first start, for example in the factory.

One plan for each graph of the bundle; this takes minutes on a small device. Other backends need no building.
The last line of standard output is one JSON object.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from edge_runtime.config.paths import default_bundle
from edge_runtime.interfaces.cli.options import BundleFolder
from edge_runtime.interfaces.cli.tables import print_table
from engines.bundle import Bundle
from engines.errors import LvmError
from engines.manifest import GRAPHS
from engines.select import choose


def warmup(
    bundle: BundleFolder = None,
    workspace_mib: Annotated[
        int | None, typer.Option(help="scratch memory for TensorRT's kernels; default: no limit")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="only the JSON line")] = False,
) -> None:
    """Build the TensorRT plans of a bundle on this machine and keep them for the next start."""
    if workspace_mib is not None and workspace_mib < 1:
        raise LvmError(f"--workspace-mib must be at least 1, got {workspace_mib}")
    opened = Bundle.open(bundle or default_bundle())
    choose("tensorrt", opened.manifest)
    from engines.tensorrt_load import load_tensorrt

    plans: dict[str, dict[str, Any]] = {}
    for name in GRAPHS:
        loaded = load_tensorrt(
            opened, name, workspace_bytes=None if workspace_mib is None else workspace_mib << 20
        )
        # Close it before the next build: a small device has no memory for both.
        loaded.engine.close()
        plans[name] = {
            "built": loaded.plan.built,
            "seconds": round(loaded.build_s, 1),
            "bytes": len(loaded.plan.data),
            "path": None if loaded.plan.path is None else str(loaded.plan.path),
        }
    if not as_json:
        print_table(_table(plans))
    print(json.dumps({"bundle": str(opened.path), "backend": "tensorrt", "plans": plans}))


def _table(plans: dict[str, dict[str, Any]]) -> Table:
    table = Table("graph", "what was done", "bytes", "plan", title="TensorRT plans")
    for name, plan in plans.items():
        done = f"built in {plan['seconds']:.1f} s" if plan["built"] else "was there"
        path = plan["path"] or "could not be saved: each start builds it again"
        table.add_row(name, done, f"{plan['bytes']:,}", path)
    return table
