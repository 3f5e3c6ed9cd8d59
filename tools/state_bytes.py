"""What remembering costs a flash disk: bytes handed over, whole pages, and syncs of each frame.

    python -m tools.state_bytes --frames 900 --level L2

Frames of the demo one by one, each synced before the next as those of a live camera are, snapshots included.
"Whole pages" is what the kernel counts for this process (`write_bytes` of /proc/self/io): the folder must lie
on a real disk, as a memory disk counts nothing. The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.config.paths import default_bundle
from edge_runtime.ingest.pipeline import Ingest, empty_version
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.step import Step
from edge_runtime.persistence import Snapshot, StateFolder
from edge_runtime.service.camera_settings import CameraSettings, first_header
from edge_runtime.service.engine_set import Engines
from edge_runtime.sources import canonical, open_source
from engines.bundle import Bundle
from tools.console import finish, progress, run_tool

SECONDS_A_DAY = 86_400


def pages_written() -> int:
    """Bytes of pages that this process caused to be written, as the kernel counts them."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def measured(frames: int, level: str, folder: Path) -> dict[str, object]:
    """What the last line says."""
    engines = Engines.load(Bundle.open(default_bundle()), "onnxruntime")
    network = engines.bundle.manifest.network
    settings = CameraSettings(canonical(f"demo?level={level}&size=160x120"), folder)
    header = first_header(settings, engines.bundle, None)
    sampler = make_sampler("neural", engines.sampler)
    ingest = Ingest(network, engines.backbone, sampler, empty_version(network))
    steps: list[Step] = []
    ingest.on_step = steps.append
    with StateFolder(folder) as state, progress(frames) as bar:
        began = pages_written()
        with open_source(settings.source, sample_fps=network.sample_fps) as source:
            for _, frame in zip(range(frames), source, strict=False):
                ingest.push([frame])
                state.keep(steps, lambda: Snapshot(header, ingest.version, state.saving), within=0.0)
                steps.clear()
                bar("frames")
        pages, handed, syncs = pages_written() - began, state.disk.written, state.disk.syncs
    ingest.close()
    engines.close()
    a_day = network.sample_fps * SECONDS_A_DAY / frames / 1e9
    return {
        "level": level,
        "frames": frames,
        "bytes_a_frame": round(handed / frames),
        "gb_a_day": round(handed * a_day, 3),
        "pages_gb_a_day": round(pages * a_day, 3),
        "syncs_a_frame": round(syncs / frames, 3),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--level", default="L1", help="of the demo: L1, L2")
    parser.add_argument("--folder", type=Path, default=Path("."), help="on the disk that is meant")
    given = parser.parse_args(argv)
    if given.frames < 1:
        parser.error(f"--frames must be 1 or more, got {given.frames}")
    with tempfile.TemporaryDirectory(prefix="state-bytes-", dir=given.folder) as folder:
        finish(measured(given.frames, given.level, Path(folder)))
    return 0


if __name__ == "__main__":
    run_tool(main)
