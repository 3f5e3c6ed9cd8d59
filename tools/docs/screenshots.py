"""Pictures of the page in a real browser at four sizes, light and dark, and that of the README.

    python -m tools.docs.screenshots [--output page-screens] [--past 1500] [--readme docs/page.png]

Two cameras watch the demo, for 25 minutes first, with a gap and a forgotten minute in it; a third is dead.
The last line of standard output is one JSON object: the pictures and their bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.interfaces.cli.demo_questions import make_demo_questions
from edge_runtime.query.schema import Photos, TimeQuery
from edge_runtime.service.runtime import Service
from engines.errors import LvmError, Unavailable
from tools.console import run_tool
from tools.docs.page_demo import served

SIZES = {"phone": (390, 844), "laptop": (1366, 768), "kiosk": (1080, 1920), "desktop": (1920, 1080)}
SCHEMES = ("light", "dark")
DEAD = {"entrance west of the long hall": "rtsp://127.0.0.1:9/stream"}
README_BYTES = 300_000
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def save_product_photo(service: Service, folder: Path) -> tuple[Path, str]:
    """Save a photo of a product that was handled a while ago; return its path and the activity."""
    camera = next(iter(service.cameras.values()))
    until = (camera.version.coverage.end or 0) * 0.9
    asked = make_demo_questions(camera.settings.source, until)[2]
    assert isinstance(asked.query, TimeQuery)
    product = asked.query.object
    assert isinstance(product, Photos)
    file = folder / "product.png"
    file.write_bytes(product.photos[0])
    return file, asked.query.activity or ""


class Scenes:
    """What is photographed of a page. Each scene begins where the scene before it left the page."""

    def __init__(self, page: Any, photo: Path, activity: str) -> None:
        self.page, self._photo, self._activity = page, photo, activity

    def start(self) -> None:
        self.page.wait_for_selector("#fps:not(:empty)")
        self.page.wait_for_selector("#curves polyline")
        self.page.click("#grid")

    def answer(self) -> None:
        """When was this done with this product, and a moment that the answer rests on."""
        page = self.page
        page.click("#grid")
        page.set_input_files("#photo", self._photo)
        page.get_by_label(re.compile("When was it")).check()
        page.select_option("#activity", self._activity)
        self._ask()
        page.click("#answer .moments button >> nth=0")
        page.wait_for_selector("#badge:has-text('Remembered at')")

    def boxes(self) -> None:
        page = self.page
        page.get_by_label(re.compile("Where was it")).check()
        page.get_by_label("5 min", exact=True).check()
        self._ask()
        page.evaluate(
            "(() => { const s = document.querySelector('#answer input[type=range]'); if (!s) return;"
            " s.value = String(Math.floor(Number(s.max) / 2)); s.dispatchEvent(new Event('input')); })()"
        )
        page.wait_for_timeout(500)

    def unwatched(self) -> None:
        """A range in the gap that nobody watched, dragged."""
        page = self.page
        page.click("#zoom-all")
        coverage = page.evaluate("fetch('/api/v1/memory?camera=lane 1').then((reply) => reply.json())")[
            "coverage"
        ]
        gap = next(gap for gap in coverage["gaps"] if "reason" not in gap)
        long = gap["to"] - gap["from"]
        track = page.locator("#track").bounding_box()
        wide, y = track["width"] / coverage["to"], track["y"] + 50
        page.mouse.move(track["x"] + (gap["from"] + 0.2 * long) * wide, y)
        page.mouse.down()
        page.mouse.move(track["x"] + (gap["from"] + 0.7 * long) * wide, y, steps=4)
        page.mouse.up()
        self._ask()

    def catalogue(self) -> None:
        """What was done with a product of the catalogue."""
        page = self.page
        page.locator("#track").focus()
        page.keyboard.press("Escape")
        page.get_by_label(re.compile("What was done")).check()
        page.fill("#product", "seen")
        page.keyboard.press("Enter")
        self._ask()

    def object(self) -> None:
        page = self.page
        if page.locator("#live").is_visible():
            page.click("#live")
        page.click("#pick")
        page.keyboard.press("Shift+ArrowRight")

    def dead(self) -> None:
        """A camera that cannot be reached, and why."""
        page = self.page
        page.click(f"#cameras button[data-name='{next(iter(DEAD))}']")
        page.wait_for_selector("#veil:has-text('tried again')")

    def paused(self) -> None:
        self.page.click("#cameras button >> nth=0")
        self.page.click("#pause")
        self.page.wait_for_selector("#veil:has-text('Paused')")

    def _ask(self) -> None:
        with self.page.expect_response("**/api/v1/query"):
            self.page.click("#send")
        self.page.wait_for_selector("#answer:not([hidden]) .hint")
        self.page.wait_for_timeout(300)


SCENES = ("start", "answer", "boxes", "unwatched", "catalogue", "object", "dead", "paused")


def take_screenshots(
    browser: Any, address: str, service: Service, output: Path, photo: Path, activity: str, only: str = ""
) -> list[Path]:
    made: list[Path] = []
    for device, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            if only not in f"{device}-{scheme}":
                continue
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
            )
            page.goto(address + "/")
            scenes = Scenes(page, photo, activity)
            for scene in SCENES:
                getattr(scenes, scene)()
                page.mouse.move(2, 2)
                file = output / f"{device}-{scheme}-{scene}.png"
                page.screenshot(path=file, full_page=device == "phone" and scene in ("start", "answer"))
                made.append(file)
            page.close()
            for name in service.cameras:
                service.resume(name)
    return made


def reduce_colours(image: Any, bits: int) -> Any:
    """Return the image (H, W, 3) uint8 with `bits` for each channel; of similar colours the most frequent
    stays, so that the page's backgrounds keep their colours exactly."""
    flat = image.reshape(-1, 3).astype(np.int64)
    alike = (flat >> (8 - bits)) @ (1 << 16, 1 << 8, 1)
    both, counts = np.unique(alike << 24 | flat @ (1 << 16, 1 << 8, 1), return_counts=True)
    order = np.lexsort((counts, both >> 24))
    last = np.append(np.diff(both[order] >> 24) != 0, True)
    known, colours = both[order][last] >> 24, both[order][last] & 0xFFFFFF
    pixels = colours[np.searchsorted(known, alike)]
    return (
        np.stack((pixels >> 16, pixels >> 8 & 255, pixels & 255), axis=-1)
        .astype(np.uint8)
        .reshape(image.shape)
    )


def write_readme_picture(shot: Path, file: Path) -> int:
    """Write a picture of at most 300 kB and return its bytes: smaller and with fewer colours until it fits,
    because the noise of the demo's camera takes most of a PNG."""
    image = cv2.imread(str(shot))
    assert image is not None
    for width, bits in ((1440, 5), (1200, 5), (1200, 4), (1000, 4), (800, 4)):
        height = round(image.shape[0] * width / image.shape[1])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        done, data = cv2.imencode(".png", reduce_colours(small, bits), [cv2.IMWRITE_PNG_COMPRESSION, 9])
        assert done
        if len(data) <= README_BYTES:
            file.write_bytes(data.tobytes())
            return len(data)
    raise LvmError(f"{shot} does not fit into {README_BYTES} bytes at 800 pixels")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("page-screens"))
    parser.add_argument("--past", type=float, default=1500.0)
    parser.add_argument("--only", default="", help="a part of the names to take, as desktop-light")
    parser.add_argument("--readme", type=Path, help="write the README's picture here")
    asked = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright

        # The path of this machine's browser. Raises Unavailable.
        executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
        if executable is None:
            raise Unavailable("there is no Chromium here: apt install chromium")
    except ImportError:
        sys.exit("playwright is not installed: pip install playwright")
    except Unavailable as error:
        sys.exit(str(error))
    asked.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        with served(Path(folder), asked.past, cameras=2, others=DEAD) as (address, service):
            photo, activity = save_product_photo(service, Path(folder))
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            made = take_screenshots(browser, address, service, asked.output, photo, activity, asked.only)
            browser.close()
    sizes = {file.name: file.stat().st_size for file in made}
    if asked.readme:
        sizes[asked.readme.name] = write_readme_picture(
            asked.output / "desktop-light-answer.png", asked.readme
        )
    print(json.dumps({"pictures": sizes}))


if __name__ == "__main__":
    run_tool(main)
