"""A real headless Chromium for tests and the page opened in it; without Chromium a test is skipped."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PATIENCE_MS = 60_000
DESKTOP = {"width": 1440, "height": 900}
OPTIONAL = re.compile(r"/api/v1/activities\b|/(live\.mjpg|latest\.jpg)\b")
"""Requests that may fail: an untrained bundle has no log, and there is no picture right after a pause."""


def executable() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Playwright's browser; skip the test if that is not possible."""
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    path = executable()
    if path is None:
        pytest.skip("there is no Chromium here: apt install chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


def open_page(browser: Any, address: str, *, events: bool = True, **context: Any) -> tuple[Any, list[str]]:
    """Open the page; return it and a list that collects all its errors.

    Without `events` every WebSocket is closed at once, as behind a proxy that does not support them.
    """
    wrong: list[str] = []
    page = browser.new_page(**{"viewport": DESKTOP, "reduced_motion": "reduce"} | context)
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda message: (
            wrong.append(message.text)
            if message.type == "error" and not OPTIONAL.search(message.location.get("url", ""))
            else None
        ),
    )
    page.on("request", lambda sent: wrong.append(sent.url) if not _ours(sent.url, address) else None)
    if not events:
        page.route_web_socket("**/api/v1/events*", lambda socket: socket.close(code=1013))
    page.goto(address + "/")
    return page, wrong


def _ours(url: str, address: str) -> bool:
    return url.startswith((address, address.replace("http", "ws", 1), "blob:", "data:"))


def drag(page: Any, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag with the mouse; `start` and `end` are shares of the element's width and height."""
    box = page.locator(selector).bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1], steps=5)
    page.mouse.up()


def send_question(page: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Send the question; return the request and the answer."""
    with page.expect_response("**/api/v1/query") as reply:
        page.click("#send")
    assert reply.value.status == 200, reply.value.text()
    page.wait_for_selector("#answer:not([hidden]) .hint")
    return reply.value.request.post_data_json, reply.value.json()
