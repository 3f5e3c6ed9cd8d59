"""Draw README's picture: the panel of a real run over the demo, with real questions and answers.

    python -m tools.docs.panel_picture docs/panel.svg

The questions are about the first product in view that something is done with after half an hour; whatever is
answered is shown.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from edge_runtime.config.paths import default_bundle
from edge_runtime.interfaces.cli.panel import Panel
from edge_runtime.interfaces.cli.query_text import parse_line
from edge_runtime.interfaces.cli.run_console import format_answer
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.runtime import Service
from edge_runtime.simulation.activities import ACTIVITIES
from edge_runtime.simulation.schedule import Event
from edge_runtime.simulation.space import Box
from edge_runtime.sources.demo import parse_demo
from engines.bundle import Bundle
from tools.console import run_tool

DEMO = "demo"
AFTER_S = 1800.0
WITHIN_S = 600.0


def find_event_in_view() -> tuple[Event, float, Box]:
    """The first event that begins after AFTER_S and whose product is visible in its middle, that moment in
    seconds, and where the product is then: xyxy, normalised."""
    world = parse_demo(DEMO).make_world()
    for event in sorted(world.events(AFTER_S, AFTER_S + WITHIN_S), key=lambda event: event.start):
        middle = float(round((event.start + event.end) / 2))
        for track in world.truth(middle).active:
            if event.start >= AFTER_S and track.instance == event.instance:
                return event, middle, track.box
    raise SystemExit(f"of {WITHIN_S:g} s of the demo no product is in view")


def make_questions(event: Event, t: float, box: Box) -> list[str]:
    """As a person types them: what was done with it, where was it, when was that done."""
    name, boxed = ACTIVITIES[event.activity].name, f"{','.join(f'{side:.2f}' for side in box)}@{t:g}"
    span = f"--from {event.start:.0f} --to {event.end:.0f}"
    return [
        f"activity --box {boxed} {span}",
        f"object --activity {name} {span}",
        f"time --activity {name} --box {boxed}",
    ]


def main(place: Path) -> None:
    console = Console(
        record=True, width=108, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    event, t, box = find_event_in_view()
    engines = Engines.load(Bundle.open(default_bundle()))
    with tempfile.TemporaryDirectory() as state, Service(engines) as service:
        camera = service.add(CameraSettings(DEMO, Path(state)))
        panel = Panel(service, "http://127.0.0.1:8971")

        def note_rate() -> None:
            panel.frames_per_s(camera)

        service.run(event.end + 5, note_rate)
        asked = make_questions(event, t, box)
        for question in asked:  # an engine's first call for a kind of question costs more than any other
            service.ask(parse_line(question))
        for question in asked:
            panel.exchanges.append((question, format_answer(service.ask(parse_line(question)))))
        console.print(panel)
    place.write_text(console.export_svg(title="lvm-edge run --source demo"), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tools.docs.panel_picture PLACE.svg")
    run_tool(lambda: main(Path(sys.argv[1])))
