"""A service to look at the page with: the demo, hurried through its past and then at the pace of the clock.

    python -m tools.docs.page_demo --past 1500

serves the page until it is stopped. Its past has a gap that was not watched and a gap that was forgotten.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import default_bundle
from edge_runtime.config.privacy import PrivacySettings
from edge_runtime.config.schema import Config, Objects
from edge_runtime.frame import Frame
from edge_runtime.imaging.decode import read_image
from edge_runtime.interfaces.cli.demo_questions import make_demo_questions
from edge_runtime.interfaces.startup import component_lifespan
from edge_runtime.query.schema import Photos
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from edge_runtime.simulation.config import WorldConfig
from edge_runtime.sources import open_source
from edge_runtime.sources.base import Source
from edge_runtime.sources.demo import DemoSource, parse_demo
from edge_runtime.sources.live_source import Supervision
from engines.bundle import Bundle
from tools.console import run_tool

ZONES = {"card reader": ((0.86, 0.62), (0.99, 0.62), (0.99, 0.86), (0.86, 0.86))}


class Hurried(DemoSource):
    """The demo's first `past` seconds as fast as they are taken, without those of `missed`; then paced."""

    def __init__(
        self, config: WorldConfig, past: float, missed: tuple[float, float], **settings: Any
    ) -> None:
        super().__init__(config, speed=1.0, **settings)
        self._past, self._missed = past, missed

    def __iter__(self) -> Iterator[Frame]:
        speed, self._speed = self._speed, 0.0
        for frame in super().__iter__():
            if not self._missed[0] <= frame.t < self._missed[1]:
                yield frame
            if frame.t + 1 / self._sample_fps >= self._past:
                break
        self._speed = speed
        yield from super().__iter__()


@contextlib.contextmanager
def served(
    state: Path,
    past: float,
    *,
    listen: str = "127.0.0.1:0",
    cameras: int = 1,
    marked: bool = True,
    others: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, Service]]:
    """The page's address and the service behind it, when its past is behind it.

    `marked` gives the first camera a zone, thumbnails and two gaps; `others` are real sources by name.
    """
    engines = Engines.load(Bundle.open(default_bundle()), "auto", threads=None)

    def opened(spec: str, *, sample_fps: float, start: float, settings: Supervision) -> Source:
        if not spec.startswith("demo"):
            return open_source(spec, sample_fps=sample_fps, start=start, settings=settings)
        missed = (past * 0.3, past * 0.36) if marked else (0.0, 0.0)
        return Hurried(parse_demo(spec).config, past, missed, sample_fps=sample_fps, start=start)

    products = state / "products"
    _fill(Catalogue(products), past)
    with Service(engines, opener=opened) as service:
        for k in range(cameras):
            first = marked and k == 0
            privacy = {"zones": ZONES, "thumbnails": {"enabled": True, "most": 2000}} if first else {}
            zones = PrivacySettings.model_validate(privacy)
            spec = f"demo?seed={k}&speed=1"
            service.add(
                CameraSettings(spec, state / str(k), f"lane {k + 1}", catalogue=products, privacy=zones)
            )
        for name, spec in (others or {}).items():
            service.add(CameraSettings(spec, state / name, name, catalogue=products, patient=True))
        settings = Config(objects=Objects(catalogue=products))
        with component_lifespan(Run(service, settings, listen=listen)) as run:
            assert run.address is not None
            running = threading.Thread(target=service.run, kwargs={"stay": True}, name="service")
            running.start()
            try:
                _wait_for(service, past)
                if marked:
                    camera = next(iter(service.cameras.values()))
                    camera.privacy.forget(past * 0.55, past * 0.6)
                yield run.address, service
            finally:
                service.stop()
                running.join()


def _fill(catalogue: Catalogue, past: float) -> None:
    """Products that something was done with, by what: the demo's have no names."""
    for name, until in (("Seen early", past * 0.5), ("Seen late", past * 0.9)):
        for asked in make_demo_questions("demo?seed=0", until)[:1]:
            product = asked.query.object  # type: ignore[union-attr]
            assert isinstance(product, Photos)
            catalogue.add(name, [read_image(product.photos[0])])


def _wait_for(service: Service, past: float) -> None:
    demos = [camera for camera in service.cameras.values() if camera.settings.source.startswith("demo")]
    while any((camera.version.coverage.end or 0) < past for camera in demos):
        for name in service.cameras:
            if (error := service.camera_error(name)) is not None:
                raise error
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--past", type=float, default=1500.0, help="seconds of the demo that have passed")
    parser.add_argument("--listen", default="127.0.0.1:8971")
    parser.add_argument("--cameras", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with served(Path(folder), asked.past, listen=asked.listen, cameras=asked.cameras) as (address, _):
            print(f"the page is at {address}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


if __name__ == "__main__":
    run_tool(main)
