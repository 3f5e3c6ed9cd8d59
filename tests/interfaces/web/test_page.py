"""The page in a real browser: what a person does, with a finger, a mouse or the keyboard alone.

Skipped, with the reason, where there is no Playwright or no Chromium.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_runtime.config.schema import Config
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.query.schema import ObjectQuery, QueryRequest
from edge_runtime.service.run import Run
from tests.support.browser import chromium, drag, open_page, send_question
from tools.docs.page_demo import served

STATIC = Path(__file__).parents[3] / "edge_runtime" / "interfaces" / "web" / "static"
PAST = 150.0
MISSED = (PAST * 0.3, PAST * 0.36)
TOKENS = {"admin": "a" * 40, "viewer": "v" * 40}


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    with served(tmp_path_factory.mktemp("state"), PAST) as (address, service):
        yield address, service


@pytest.fixture
def page(browser, site):
    page, wrong = open_page(browser, site[0])
    page.wait_for_selector("#fps:not(:empty)")  # a live picture
    page.wait_for_selector("#legend li")  # and what is remembered
    yield page
    page.close()
    assert wrong == []


def colours(page, selector: str) -> int:
    """How many different colours a canvas shows."""
    script = """(s) => { const c = document.querySelector(s);
      const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
      return new Set(d).size; }"""
    return page.evaluate(script, selector)


def choose_product(page, name: str) -> None:
    page.fill("#product", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#chosen img")


def choose_object(page) -> None:
    drag(page, "#stage", (0.15, 0.2), (0.3, 0.5))
    page.click("#use-box")


def test_all_three_kinds_of_question_from_an_object_in_the_picture(page):
    assert colours(page, "#picture") > 500 and page.locator("#send").is_disabled()
    choose_object(page)
    question, answer = send_question(page)
    assert question["type"] == "activity" and list(question["object"]) == ["photos"]
    assert answer["type"] == "activity" and page.locator("#answer").inner_text()

    page.get_by_label(re.compile("When was it")).check()
    before = page.evaluate("document.getElementById('hours').toDataURL()")
    question, answer = send_question(page)
    assert question["type"] == "time" and "activity" not in question
    if not answer["abstained"]:
        assert page.locator("#answer progress").count() >= 2
        assert page.evaluate("document.getElementById('hours').toDataURL()") != before  # its spans
        assert "Answer" in page.locator("#legend").inner_text()

    page.get_by_label(re.compile("Where was it")).check()
    names = page.locator("#activity option").evaluate_all("(all) => all.map((one) => one.value)")
    for activity in filter(None, names):  # until one that was done in these minutes
        page.select_option("#activity", activity)
        question, answer = send_question(page)
        assert question == {"camera": "lane 1", "type": "object", "activity": activity}
        if not answer["abstained"]:
            break
    assert not answer["abstained"]
    page.click("#answer .moments button >> nth=0")
    page.wait_for_selector("#badge:has-text('Remembered at')")
    assert colours(page, "#picture") > 500 and colours(page, "#overlay") > 1  # the thumbnail, and cells on it
    page.click("#live")
    assert page.locator("#badge").is_hidden() and page.locator("#past li").count() >= 3


def test_a_range_dragged_on_the_timeline_is_asked_about_and_nobody_watching_is_told_apart(page, site):
    until = site[1].camera("lane 1").version.coverage.end
    drag(page, "#track", ((MISSED[0] + 2) / until, 0.4), ((MISSED[1] - 2) / until, 0.4))
    assert page.locator("#range-choice").is_visible()
    choose_object(page)
    question, answer = send_question(page)
    assert MISSED[0] - 2 < question["from"] < question["to"] < MISSED[1] + 3
    assert answer["abstained"] and "unwatched" in page.locator("#answer").get_attribute("class")
    assert "nobody was watching" in page.locator("#answer").inner_text().lower()
    page.locator("#track").focus()
    page.keyboard.press("Escape")
    assert page.locator("#range-choice").is_hidden()
    page.get_by_label("5 min", exact=True).check()
    question, _ = send_question(page)
    assert question["to"] - question["from"] == 300


def test_a_photo_that_is_uploaded_is_asked_about(page, tmp_path):
    import cv2
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "milk.png"), noise)
    page.set_input_files("#photo", tmp_path / "milk.png")
    page.wait_for_selector("#chosen canvas")
    assert page.evaluate("document.querySelector('#chosen canvas').width") == 1024  # no more is needed
    question, _ = send_question(page)
    assert len(question["object"]["photos"]) == 1
    page.get_by_role("button", name="Remove Photo milk.png").click()
    assert page.locator("#send").is_disabled() and "Choose an object" in page.locator("#missing").inner_text()


def test_a_product_of_the_catalogue_is_shown_and_asked_about_by_its_name(page):
    choose_product(page, "Seen late")
    width = "async (img) => { await img.decode(); return img.naturalWidth; }"
    assert page.locator("#chosen img").evaluate(width) > 0
    question, answer = send_question(page)
    assert question["object"] == {"product": "Seen late"} and question["type"] == "activity"
    words = page.locator("#answer").inner_text()
    assert "What was done with Seen late?" in words
    page.wait_for_selector("#past li .asked:has-text('Seen late')")
    assert answer["abstained"] == ("It was not seen." in words)


def test_what_was_recognised_is_searched_seen_on_the_timeline_and_taken_away_as_a_file(page):
    page.wait_for_selector("#rows li")
    everything = page.locator("#rows li").count()
    word = page.locator("#rows b").first.inner_text().split(",")[0]
    page.fill("#log-text", word)
    page.wait_for_function("(n) => document.querySelectorAll('#rows li').length < n", arg=everything)
    found = page.locator("#rows b").all_inner_texts()
    assert found and all(word.lower() in one.lower() for one in found)
    page.click("#rows button >> nth=0")
    assert word.lower() in page.locator("#moment").inner_text().lower()
    with page.expect_download() as file:
        page.click("#log-csv")
    lines = Path(file.value.path()).read_text().splitlines()
    assert lines[0].startswith("id,camera,activity,") and len(lines) == len(found) + 1
    page.fill("#log-text", "no such thing")
    page.wait_for_selector("#log-said:has-text('Nothing of the kind')")
    page.fill("#log-text", "")
    page.wait_for_selector("#rows li")
    drag(page, "#track", (0.3, 0.3), (0.36, 0.3))  # nobody was watching
    page.wait_for_selector("#log-said:has-text('In the selected time')")
    assert page.locator("#rows li").count() == 0


def test_what_is_chosen_in_the_picture_is_kept_in_the_catalogue_under_a_name(page):
    assert page.locator("#keep").is_hidden()
    choose_object(page)
    page.get_by_label("Product name").fill("Left shelf")
    page.keyboard.press("Enter")
    page.wait_for_selector("#chosen img")
    page.fill("#product", "left")
    assert page.locator("#product-list [role=option]").all_inner_texts() == ["Left shelf"]
    page.keyboard.press("Escape")
    question, _ = send_question(page)
    assert question["object"] == {"product": "Left shelf"}
    choose_object(page)
    page.get_by_label("Product name").fill("no/name")
    page.click("#keep-it")
    page.wait_for_selector("#toast:has-text('A name has none of')")


def test_on_a_phone_the_picture_stays_in_sight_while_one_goes_through_an_answer(browser, site):
    page, wrong = open_page(browser, site[0], viewport={"width": 390, "height": 844}, has_touch=True)
    page.get_by_label(re.compile("Where was it")).check()
    names = page.locator("#activity option").evaluate_all("(all) => all.map((one) => one.value)")
    for activity in filter(None, names):  # until one that was done in these minutes
        page.select_option("#activity", activity)
        if not send_question(page)[1]["abstained"]:
            break
    page.tap("#answer .moments button >> nth=0")
    page.wait_for_selector("#badge:has-text('Remembered at')")
    seen = page.locator("#stage").bounding_box()
    assert 0 <= seen["y"] < 100 and page.locator("#live").is_visible()
    page.tap("#live")
    assert page.locator("#pick").is_visible()
    page.close()
    assert wrong == []


def test_a_pause_takes_the_picture_away_until_watching_is_resumed(page, site):
    page.click("#pause")
    page.wait_for_selector("#veil:has-text('Paused for privacy')")
    assert site[1].camera("lane 1").paused and colours(page, "#picture") == 1
    page.click("#pause:has-text('Resume')")
    page.wait_for_selector("#veil", state="hidden")
    assert not site[1].camera("lane 1").paused and colours(page, "#picture") > 500


def ask_elsewhere(page, service) -> None:
    """An answer that another door gave, until the page shows it."""
    before = page.locator("#past li").count()
    service.ask(QueryRequest(ObjectQuery(activity="scan", start=1, end=2), "lane 1"))
    page.locator("#past li").nth(before).wait_for()


def test_what_happens_elsewhere_is_on_the_page_by_an_event(page, site):
    page.wait_for_selector("html[data-events=listening]")
    page.wait_for_timeout(500)  # what was before has been asked for
    # While events come, answers are asked for each minute only: sooner it is the event that did it.
    with page.expect_request("**/api/v1/answers*", timeout=20_000):
        ask_elsewhere(page, site[1])
    site[1].pause("lane 1")
    try:
        page.wait_for_selector("#pause:has-text('Resume watching')")
    finally:
        site[1].resume("lane 1")
    page.wait_for_selector("#pause:has-text('Pause for privacy')")


def test_where_no_events_come_the_page_asks_again_and_again(browser, site):
    page, wrong = open_page(browser, site[0], events=False)
    page.wait_for_selector("#fps:not(:empty)")
    assert page.evaluate("document.documentElement.dataset.events") == "asking"
    ask_elsewhere(page, site[1])
    page.close()
    assert wrong == []


def test_with_the_keyboard_alone(page):
    focused = "document.activeElement.id"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(14):
        if page.evaluate(focused) == "pick":
            break
        page.keyboard.press("Tab")
    assert page.evaluate(focused) == "pick"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"  # the focus is seen
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "box"
    before = page.locator("#box").bounding_box()
    for key in ("ArrowLeft", "ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    after = page.locator("#box").bounding_box()
    assert after["x"] < before["x"] and after["y"] < before["y"] and after["width"] > before["width"]
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "send"
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer:not([hidden])")
    page.locator("#track").focus()
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#range-choice").is_visible()
    page.keyboard.press("Home")
    page.keyboard.press("+")


def test_a_finger_taps_an_object_on_a_phone(browser, site):
    page, wrong = open_page(browser, site[0], viewport={"width": 390, "height": 844}, has_touch=True)
    page.wait_for_selector("#fps:not(:empty)")
    box = page.locator("#stage").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#box:not([hidden])")
    page.tap("#use-box")
    assert page.locator("#chosen canvas").count() == 1
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390  # nothing has to be pushed aside
    small = page.evaluate(
        "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 44)"
        ".map((b) => b.textContent)"
    )
    page.close()
    assert small == [] and wrong == []


def test_every_control_has_a_name_and_every_part_a_heading(page):
    choose_object(page)
    send_question(page)
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    controls = ("button", "radio", "combobox", "slider", "textbox", "link", "application", "image", "img")
    nameless = [
        node["nodeId"] + " " + node["role"]["value"]
        for node in tree
        if not node.get("ignored")
        and node.get("role", {}).get("value") in controls
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    headings = [node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "heading"]
    for one in ("lvm-edge", "Ask the memory", "Timeline", "Activities", "Earlier answers", "Health"):
        assert one in headings
    assert page.locator("#answer").get_attribute("aria-live") == "polite"


def test_where_a_token_is_needed_the_page_asks_for_it_and_a_viewer_may_not_pause(browser, site):
    tokens = [{"name": role, "role": role, "token": token} for role, token in TOKENS.items()]
    settings = Config.model_validate({"http": {"tokens": tokens}})
    with HttpServer(site[1], "127.0.0.1:0", Run(site[1], settings)) as server:
        page, _ = open_page(browser, server.address)
        page.wait_for_selector("#login[open]")
        page.fill("#token", "x" * 40)
        page.keyboard.press("Enter")
        page.wait_for_selector("#login-wrong:not(:empty)")
        page.fill("#token", TOKENS["viewer"])
        page.keyboard.press("Enter")
        page.wait_for_selector("#fps:not(:empty)")
        assert page.locator("#login").is_hidden() and page.locator("#pause").is_disabled()
        page.click("#sign-out")
        page.wait_for_selector("#login[open]")
        page.close()


# -- teaching ----------------------------------------------------------------------------------------------


def test_a_time_that_is_selected_teaches_and_can_be_asked_for(page, site):
    camera = site[1].camera("lane 1")
    until = camera.version.coverage.end
    page.click("#teach")
    assert "Drag over the timeline" in page.text_content("#teach-hint") and page.is_disabled("#teach-send")
    page.click("#teach-dialog [data-closes]")
    for number, start in enumerate((70, 110), 1):
        drag(page, "#track", (start / until, 0.4), ((start + 12) / until, 0.4))
        page.click("#teach")
        page.fill("#teach-name", "waving")
        page.click("#teach-send")
        page.wait_for_selector(f"#toast:has-text('Waving: {number} example')")
        page.wait_for_selector("#range-choice", state="hidden")  # the selection has done its work
    marked = camera.teacher.describe("waving")["marked"]
    assert [round(one["to"] - one["from"]) in (11, 12, 13) for one in marked] == [True, True]
    # It can be asked when it was done at all, without an object.
    page.get_by_label("When", exact=False).first.check(force=True)
    page.select_option("#activity", "waving")
    question, _ = send_question(page)
    assert question["activity"] == "waving" and "object" not in question
    page.wait_for_selector("#past :text('Waving: when?')")
    page.click("#teach")
    page.click("#teach-rows button:has-text('Remove')")
    page.wait_for_selector("#teach-rows li", state="detached")
    assert camera.teacher.as_json() == {"classes": [], "waiting": [], "alone": []}
    page.click("#teach-dialog [data-closes]")
