"""Draw README's picture: the panel of a real run over the demo, with real questions and answers.

python tools/picture.py docs/panel.svg
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from edge_runtime.camera_settings import CameraSettings
from edge_runtime.cli.question import typed
from edge_runtime.cli.session import sentence
from edge_runtime.engine_set import Engines
from edge_runtime.panel import Panel
from edge_runtime.paths import default_bundle
from edge_runtime.service import Service
from engines.bundle import Bundle

STREAM_S = 1815
QUESTIONS = (
    "activity --box 0.45,0.35,0.6,0.6@1810",
    "object --activity scan --from 1700 --to 1800",
    "time --activity bag --box 0.45,0.35,0.6,0.6@1800",
)


def main(place: Path) -> None:
    console = Console(
        record=True, width=108, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    engines = Engines.load(Bundle.open(default_bundle()))
    with tempfile.TemporaryDirectory() as state, Service(engines) as service:
        camera = service.add(CameraSettings("demo", Path(state)))
        panel = Panel(service, "http://127.0.0.1:8971")
        service.run(STREAM_S, lambda: panel.frames_per_s(camera))
        for question in QUESTIONS:
            panel.said.append((question, sentence(service.ask(typed(question).query))))
        console.print(panel)
    place.write_text(console.export_svg(title="lvm-edge run --source demo"), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tools/picture.py PLACE.svg")
    main(Path(sys.argv[1]))
