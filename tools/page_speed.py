"""How fast the page is, and what a live picture costs ingest, in one run of interleaved blocks.

    python -m tools.page_speed [--blocks 6] [--seconds 8]

Blocks take turns: nobody looks, a program reads the live stream, a browser shows the page. In all of them
a film at 25 pictures a second is watched live (H.264, 640 x 360). What looking costs is told in processor
time of this process, which other programs on the machine hardly change. With `--load` a second camera
takes in the demo as fast as it can: its frames a second say what is left for ingest, where nothing else
runs on the machine. Then, in the browser alone: first paint and answers.

The last line of standard output is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from edge_runtime.config.paths import default_bundle
from edge_runtime.frame import Frame
from edge_runtime.interfaces.startup import accompanied
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_set import Engines
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from edge_runtime.sources.base import Counting, SampleClock, Source
from edge_runtime.sources.decoding import Media, sampled_and_shown
from edge_runtime.sources.demo import open_demo, parse_demo
from edge_runtime.sources.supervised import Supervised
from edge_runtime.sources.supervision_settings import Supervision
from engines.bundle import Bundle
from tools.console import run_tool
from tools.docs.page_demo import served
from tools.docs.screenshots import chromium, product_photo

FPS = 25
FILM_S = 20
READER = """
import sys, time, urllib.request
end = time.monotonic() + float(sys.argv[2])
parts = 0
with urllib.request.urlopen(sys.argv[1], timeout=20) as reply:
    while time.monotonic() < end:
        parts += reply.read1(65536).count(b"X-LVM-T")
print(parts)
"""


def film(path: Path) -> None:
    """The demo as H.264."""
    world = parse_demo("demo?seed=5").world()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": str(FPS)})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for k in range(FILM_S * FPS):
            picture = av.VideoFrame.from_ndarray(world.frame(k / FPS, (360, 640)), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


class Filmed(Counting):
    """A camera that shows the film at its pace, again and again, decoded as a network stream is."""

    def __init__(self, path: Path, sample_fps: float) -> None:
        super().__init__("film", live=True)
        self._path, self._sample_fps = path, sample_fps

    def __iter__(self) -> Iterator[Frame]:
        yield from sampled_and_shown(self, self._pictures(), SampleClock(self._sample_fps))

    def _pictures(self) -> Iterator[tuple[float, av.VideoFrame]]:
        begun, shown = time.monotonic(), 0
        while not self.closed:
            with Media(str(self._path), self.tally, options={}, stopped=self._closed.is_set) as media:
                for _, picture in media.pictures():
                    if self._closed.wait(max(begun + shown / FPS - time.monotonic(), 0)):
                        return
                    yield shown / FPS, picture
                    shown += 1


@contextlib.contextmanager
def watching(folder: Path, load: bool) -> Iterator[tuple[str, Service]]:
    """A service with the film as a live camera, with `load` an unpaced demo beside it."""
    film(folder / "film.mp4")

    def opened(spec: str, *, sample_fps: float, start: float, settings: Supervision) -> Source:
        if spec.startswith("demo"):
            return open_demo(spec, sample_fps=sample_fps, start=start)
        return Supervised(
            lambda at: Filmed(folder / "film.mp4", sample_fps), "film", sample_fps=sample_fps, start=start
        )

    engines = Engines.load(Bundle.open(default_bundle()), "auto", threads=None)
    with Service(engines, opener=opened) as service:
        service.add(CameraSettings("rtsp://film", folder / "live", "live"))
        if load:
            service.add(CameraSettings("demo?size=64x48", folder / "load", "load"))
        with accompanied(Run(service, listen="127.0.0.1:0")) as run:
            running = threading.Thread(target=service.run, kwargs={"stay": True})
            running.start()
            try:
                while min(camera.version.frames for camera in service.cameras.values()) < 5:
                    time.sleep(0.05)
                assert run.address is not None
                yield run.address, service
            finally:
                service.stop()
                running.join()


def block(service: Service, seconds: float, look: Callable[[float], float]) -> dict[str, float]:
    """One block: what was left for ingest, and at what rate pictures came, by `look`."""
    load, live = service.cameras.get("load"), service.camera("live")
    began, watched = time.monotonic(), live.version.frames
    frames = load.version.frames if load else 0
    cpu = time.process_time()
    fps = look(seconds)
    past = time.monotonic() - began
    return {
        "ingest_fps": (load.version.frames - frames) / past if load else 0.0,
        "live_sampled_fps": (live.version.frames - watched) / past,
        "cpu_cores": (time.process_time() - cpu) / past,
        "picture_fps": fps,
    }


def nobody(seconds: float) -> float:
    time.sleep(seconds)
    return 0.0


def reader_of(address: str) -> Callable[[float], float]:
    def look(seconds: float) -> float:
        url = f"{address}/api/v1/cameras/live/live.mjpg?fps=12&width=640"
        command = [sys.executable, "-c", READER, url, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(done.stdout) / seconds

    return look


def browser_of(page: Any, address: str) -> Callable[[float], float]:
    def look(seconds: float) -> float:
        page.goto(address + "/")
        page.click("#cameras button[data-name=live]")
        page.wait_for_selector("#fps:not(:empty)")
        page.wait_for_timeout(seconds * 1000)
        fps = float(page.evaluate("document.getElementById('fps').dataset.fps"))
        page.goto("about:blank")
        return fps

    return look


def paints(page: Any, address: str, times: int) -> dict[str, float]:
    """Milliseconds from the start of loading, medians: first content, first live picture."""
    found: dict[str, list[float]] = {"first_paint_ms": [], "first_picture_ms": []}
    for _ in range(times):
        page.goto(address + "/")
        page.wait_for_selector("#fps:not(:empty)", timeout=60_000)
        script = "(name) => performance.getEntriesByName(name)[0].startTime"
        found["first_paint_ms"].append(page.evaluate(script, "first-contentful-paint"))
        found["first_picture_ms"].append(page.evaluate(script, "first-picture"))
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


ASKING = """() => new Promise((done) => {
  const begun = performance.now();
  const answer = document.getElementById('answer');
  answer.replaceChildren();
  new MutationObserver((_, watcher) => {
    if (!answer.querySelector('.hint')) return;
    watcher.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begun)));
  }).observe(answer, { childList: true });
  document.getElementById('send').click();
})"""


def answers(page: Any, photo: Path, times: int) -> dict[str, Any]:
    """Milliseconds from the click to the answer on the screen, the same photo each time."""
    page.set_input_files("#photo", photo)
    page.wait_for_selector("#chosen canvas")
    took = [page.evaluate(ASKING) for _ in range(times + 1)][1:]  # the first also encodes the photo
    p50, p90 = (round(float(np.quantile(took, q)), 1) for q in (0.5, 0.9))
    return {"p50": p50, "p90": p90, "n": times}


def ratio(blocks: list[dict[str, dict[str, float]]], kind: str) -> float:
    """Of ingest while `kind` looks against nobody, pair by pair, the median."""
    pairs = [one[kind]["ingest_fps"] / one["nobody"]["ingest_fps"] for one in blocks]
    return round(statistics.median(pairs), 3)


def extra(blocks: list[dict[str, dict[str, float]]], kind: str) -> float:
    """Cores that this process takes more while `kind` looks than while nobody does, the median of pairs."""
    return round(statistics.median(one[kind]["cpu_cores"] - one["nobody"]["cpu_cores"] for one in blocks), 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--load", action="store_true", help="a second camera that takes in all it can")
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    blocks: list[dict[str, dict[str, float]]] = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        with watching(Path(folder), asked.load) as (address, service):
            looks = {"nobody": nobody, "reader": reader_of(address), "browser": browser_of(page, address)}
            for k in range(asked.blocks):
                order = list(looks) if k % 2 == 0 else list(reversed(looks))
                blocks.append({name: block(service, asked.seconds, looks[name]) for name in order})
                print(json.dumps(blocks[-1]), flush=True)
        with served(Path(folder) / "page", 300.0, marked=False) as (address, service):
            photo, _ = product_photo(service, Path(folder))
            told: dict[str, Any] = paints(page, address, 5)
            told["answer_on_screen_ms"] = answers(page, photo, 30)
        browser.close()
    medians = {
        f"{kind}_{what}": round(statistics.median(one[kind][what] for one in blocks), 2)
        for kind in ("nobody", "reader", "browser")
        for what in ("ingest_fps", "picture_fps", "cpu_cores", "live_sampled_fps")
    }
    for kind in ("reader", "browser"):
        told[f"{kind}_extra_cores"] = extra(blocks, kind)
        if asked.load:
            told[f"{kind}_ingest_ratio"] = ratio(blocks, kind)
    load = [round(value, 1) for value in os.getloadavg()]
    print(json.dumps(told | medians | {"blocks": len(blocks), "load_average": load}))


if __name__ == "__main__":
    run_tool(main)
