"""The page in a real browser where cameras come late, and go: over a service that watches nothing."""

from __future__ import annotations

from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import pytest

from edge_runtime.config.schema import Config
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.service.run import Run
from tests.support.browser import chromium, open_page

NO_LOG = {"status": 404, "json": {"error": "there is no camera"}}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@contextmanager
def page_of(browser, service, log=None):
    """The page without events, so that it asks by itself every few seconds, and what goes wrong in it.

    `log(route, asked)` answers what is asked of the activity log, of which there is none otherwise.
    """
    with HttpServer(service, "127.0.0.1:0", Run(service, Config())) as server:
        page, wrong = open_page(browser, server.address, events=False)
        if log is not None:
            page.route(
                "**/api/v1/activities*", lambda route: log(route, parse_qs(urlsplit(route.request.url)[3]))
            )
            page.reload()
        try:
            yield page, wrong
        finally:
            page.close()


def rows_of(name: str) -> dict:
    row = {"activity": name, "from": 1, "to": 2, "confidence": 0.5, "alternatives": [], "ongoing": False}
    return {"status": 200, "json": {"activities": [row], "more": False}}


def test_where_no_camera_is_watched_the_page_says_why_until_one_is(browser, watch, settings):
    service, late = watch(), settings("late", "demo?size=64x48")
    late.state.write_text("in the way")
    assert service.pending.try_add(late) is not None
    with page_of(browser, service) as (page, wrong):
        page.wait_for_selector("#veil:has-text('late is not watched yet: ')")
        assert page.locator("#cameras button").inner_text().startswith("late")
        assert page.locator("#pause").is_disabled()
        late.state.unlink()
        assert service.pending.try_add(late) is None
        page.wait_for_selector("#cameras button[aria-pressed=true]:has-text('late')")
        page.wait_for_selector("#state:has-text('Waiting')")
        assert page.locator("#pause").is_enabled()
        other = settings("other")
        other.state.write_text("in the way")
        service.apply([other])
        page.wait_for_selector("#veil:has-text('other is not watched yet: ')")
        assert page.locator("#cameras button").count() == 1 and page.locator("#state").inner_text() == ""
        wrong.clear()  # a picture of the camera may have been asked for when it went
        for _ in range(2):
            with page.expect_request("**/api/v1/cameras"):
                pass
        assert wrong == [] and page.locator("#toast").is_hidden()  # nothing more is asked of who is gone


def test_a_camera_that_has_gone_is_no_reason_to_take_the_log_for_switched_off(browser, watch, settings):
    service, asked = watch(), []

    def log(route, _):
        asked.append(1)
        if len(asked) > 1:
            route.fulfill(**rows_of("scan"))
            return
        service.remove("a")
        route.fulfill(**NO_LOG)

    with page_of(browser, service, log) as (page, _):
        page.wait_for_selector("#veil:has-text('No camera is watched')")
        with page.expect_request("**/api/v1/activities*"):
            service.add(settings("a"))
        page.wait_for_selector("#veil:has-text('No camera is watched')")
        service.add(settings("b"))
        page.wait_for_selector("#rows li:has-text('scan')", state="attached")


def test_a_search_of_the_log_that_comes_late_replaces_nothing_that_is_newer(browser, watch, settings):
    service, held = watch(), []
    service.add(settings("a"))
    service.add(settings("b"))

    def log(route, asked):
        if "from" in asked:
            held.append(route)
        else:
            route.fulfill(**rows_of({"a": "scan", "b": "bag"}[asked["camera"][0]]))

    with page_of(browser, service, log) as (page, wrong):
        page.wait_for_selector("#rows li:has-text('scan')", state="attached")
        page.locator("#track").focus()
        with page.expect_request("**/api/v1/activities?*from=*"):
            page.keyboard.press("Shift+ArrowRight")
        page.click("#cameras button:has-text('b')")
        page.wait_for_selector("#rows li:has-text('bag')", state="attached")
        with page.expect_response("**/api/v1/activities?*from=*"):
            for route in held:
                route.fulfill(**rows_of("scan"))
        page.wait_for_timeout(300)  # for what would show it
        assert page.locator("#rows li:has-text('bag')").count() == 1 and wrong == []
