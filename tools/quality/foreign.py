"""Count the activities that are logged about video in which nothing of the kind happens.

    python -m tools.quality.foreign VIDEOS [VIDEOS ...]

VIDEOS are files or folders of them, one stream after another. The runtime's own recogniser passes over it
as during a run (every third of a clip), and what it would log and publish is counted: rows, events, and
accusations, which are rows that name `conceal` or have it among their alternatives. `familiar` is the share
of passes in which the camera counted as familiar; on an unfamiliar one nothing is logged. The last line of
standard output is one JSON object.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from edge_runtime.activity.occurrences import Occurrences
from edge_runtime.activity.recognizer import ActivityRecogniser
from edge_runtime.activity.row import Row
from edge_runtime.config.paths import default_bundle
from edge_runtime.config.schema import ActivitySettings
from edge_runtime.frame import Frame
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.familiarity import is_familiar
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import empty_version
from edge_runtime.service.activity_recorder import PASSES_PER_CLIP
from edge_runtime.service.engine_pool import Engines
from edge_runtime.sources import open_source
from engines.bundle import Bundle
from export.evaluation.nothing import list_videos
from tools.console import finish, run_tool, show

ACCUSATION = "conceal"


@dataclass
class Findings:
    """What was logged about a stream of `seconds`: the rows in their final form, and the number of events."""

    seconds: float = 0.0
    rows: dict[int, Row] = field(default_factory=dict)
    events: int = 0
    passes: int = 0
    familiar: int = 0

    def as_json(self) -> dict[str, Any]:
        hours = self.seconds / 3600
        accusing = [row for row in self.rows.values() if ACCUSATION in (row.activity, *row.alternatives)]
        return {
            "seconds": round(self.seconds, 1),
            "rows": len(self.rows),
            "rows_per_hour": round(len(self.rows) / hours, 2),
            "events_per_hour": round(self.events / hours, 2),
            "accusations": len(accusing),
            "by_activity": dict(Counter(row.activity for row in self.rows.values())),
            "familiar": round(self.familiar / max(self.passes, 1), 3),
        }


def read_stream(files: Sequence[Path], rate: float) -> Iterator[Frame]:
    """Yield the frames of all videos, one after another, at `rate` a second."""
    now = 0.0
    for file in files:
        with open_source(str(file), sample_fps=rate) as source:
            for frame in source:
                yield Frame(frame.image, now)
                now += 1 / rate


def count_rows(engines: Engines, files: Sequence[Path], min_confidence: float) -> Findings:
    """Watch the videos, recognise activities in passes, and count what is logged."""
    network = engines.bundle.manifest.network
    part = max(1, network.clip_frames // PASSES_PER_CLIP)
    part_s = part / network.sample_fps
    recogniser = ActivityRecogniser(engines.bundle.manifest, engines.reader)
    findings = Findings()
    occurrences = Occurrences(
        recogniser.names, recogniser.doing, lambda a, b: Row(len(findings.rows) + 1, "", "", "", a, b, 0.0)
    )
    sampler = make_sampler("neural", engines.sampler)
    ingest = Ingest(network, engines.backbone, sampler, empty_version(network))
    frames = read_stream(files, network.sample_fps)
    while batch := list(islice(frames, part)):
        version = ingest.push(batch)
        findings.seconds += len(batch) / network.sample_fps
        if not version.memory.filled:
            continue
        window = max(0.0, findings.seconds - 2 * part_s), findings.seconds
        detections = recogniser.detect(version, *window, min_confidence=min_confidence)
        recogniser.forget()
        for change in occurrences.join(
            detections, findings.seconds, recogniser.max_gap(1 / network.sample_fps)
        ):
            findings.rows[change.after.id] = change.after
            findings.events += 1
        findings.passes += 1
        findings.familiar += is_familiar(version.recurrent_state)
    ingest.close()
    return findings


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEOS", help="videos or folders of videos")
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--min-confidence", type=float, default=ActivitySettings().min_confidence)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args(argv)
    files = list_videos(arguments.videos)
    engines = Engines.load(Bundle.open(arguments.bundle), arguments.backend, arguments.threads)
    findings = count_rows(engines, files, arguments.min_confidence)
    engines.close()
    rows = [[row.activity, row.start, row.end, row.confidence] for row in findings.rows.values()]
    show(f"Findings in {findings.seconds:.0f} s of video", ["activity", "from", "to", "confidence"], rows)
    finish(findings.as_json())
    return 0


if __name__ == "__main__":
    run_tool(main)
