"""The page over several cameras, one of them dead: what belongs to a camera stays with it."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

import pytest

from edge_runtime.config.schema import Config
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.service.run import Run
from tests.support.browser import chromium, drag, open_page, send_question
from tests.support.reverse_proxy import reverse_proxy, strip_prefix
from tools.docs.page_demo import served

PAST = 90.0
DEAD = "entrance-west-of-the-long-hall-32"
SIZES = [(390, 844), (1366, 768), (1920, 1080)]


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    with served(folder, PAST, cameras=2, others={DEAD: "rtsp://127.0.0.1:9/stream"}) as found:
        yield found


@pytest.fixture
def page(browser, site):
    with opened(browser, site[0]) as page:
        yield page


@contextmanager
def fresh(browser, address, routes=None, **context):
    """A page, with `routes` from the beginning; nothing may have gone wrong in it."""
    page, wrong = open_page(browser, address, **context)
    try:
        for pattern, handler in (routes or {}).items():
            page.route(pattern, handler)
        if routes:
            page.reload()
        yield page
    finally:
        page.unroute_all(behavior="ignoreErrors")
        page.close()  # or it would stay one of four viewers
    assert wrong == []


@contextmanager
def opened(browser, address, routes=None, **context):
    """A page with a live picture and what is remembered."""
    with fresh(browser, address, routes, **context) as page:
        page.wait_for_selector("#fps:not(:empty)")
        page.wait_for_selector("#legend li")
        yield page


def choose(page, name: str) -> None:
    page.click(f"#cameras button[data-name='{name}']")
    page.wait_for_selector(f"#cameras button[data-name='{name}'][aria-pressed=true]")


def ask_where(page) -> dict:
    """Ask where each activity was until one was seen; return the answer."""
    page.get_by_label(re.compile("Where was it")).check()
    names = page.locator("#activity option").evaluate_all("(all) => all.map((one) => one.value)")
    for activity in filter(None, names):
        page.select_option("#activity", activity)
        answer = send_question(page)[1]
        if not answer["abstained"]:
            return answer
    raise AssertionError("nothing was seen")


def answer_of(confidence: float, **more) -> dict:
    candidates = [{"activity": "scan", "confidence": confidence}, {"activity": "weigh", "confidence": 0.004}]
    return {
        "type": "activity", "answer": "scan", "confidence": confidence, "abstained": False, "reason": None,
        "activities": candidates, "boxes": [], "spans": [], "trained": True, "familiar": True,
        "evidence": [{"t": 5.0, "cell": 3, "box": [0, 0, 1, 1], "weight": 1.0}],
        "coverage": {"from": 0.0, "to": 60.0, "watched_share": [1, 1], "gaps": []},
        "memory_version": 1, "milliseconds": 3.0,
    } | more  # fmt: skip


def choose_product(page, name: str) -> None:
    page.fill("#product", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#chosen img")


# -- what belongs to a camera --------------------------------------------------------------------------------


def test_a_range_stays_with_its_camera(page):
    drag(page, "#track", (0.5, 0.4), (0.7, 0.4))
    text = page.locator("#range-text").inner_text()
    choose(page, "lane 2")
    assert page.locator("#range-choice").is_hidden() and page.locator("#moment").inner_text() == ""
    choose_product(page, "Seen late")
    question, _ = send_question(page)
    assert question["camera"] == "lane 2" and "from" not in question
    choose(page, "lane 1")
    assert page.locator("#range-text").inner_text() == text
    assert page.locator("#when input[value=range]").is_checked()
    question, _ = send_question(page)
    assert question["camera"] == "lane 1" and question["to"] > question["from"] > 0


def test_a_drag_that_goes_on_over_a_switch_selects_nothing_of_the_other_camera(page):
    box = page.locator("#track").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 40)
    page.evaluate("document.querySelector('#cameras button[data-name=\"lane 2\"]').click()")
    page.mouse.move(box["x"] + 300, box["y"] + 40)
    page.mouse.up()
    assert page.locator("#range-choice").is_hidden()
    choose(page, "lane 1")
    assert page.locator("#range-choice").is_visible()


def test_a_chosen_object_may_be_asked_of_another_camera_and_a_box_stays_where_it_was_drawn(page):
    drag(page, "#stage", (0.15, 0.2), (0.3, 0.5))
    choose(page, "lane 2")
    assert page.locator("#box").is_hidden() and page.locator("#badge").is_hidden()
    choose(page, "lane 1")
    assert page.locator("#box").is_visible() and "standing still" in page.locator("#badge").inner_text()
    page.click("#use-box")
    choose(page, "lane 2")
    question, _ = send_question(page)
    assert question["camera"] == "lane 2" and list(question["object"]) == ["photos"]


def test_a_playing_answer_never_draws_over_another_camera(page):
    ask_where(page)
    page.click("#answer .play button")
    page.wait_for_selector("#badge:has-text('Remembered at')")
    # Looked at in each frame from the switch on: no box, no badge, no moment of the other camera.
    page.evaluate("""() => {
      window.seen = [];
      document.querySelector('#cameras button[data-name="lane 2"]').click();
      const look = () => {
        const badge = document.getElementById('badge');
        const recalling = document.getElementById('watch').classList.contains('recalling');
        const answered = !document.getElementById('answer').hidden;
        if (!badge.hidden || recalling || answered) window.seen.push(badge.textContent);
        requestAnimationFrame(look);
      };
      look();
    }""")
    page.wait_for_timeout(1500)
    assert page.evaluate("window.seen") == []
    choose(page, "lane 1")
    assert page.locator("#answer").is_visible()
    assert page.locator("#answer .play button").inner_text() == "Play"  # it does not go on by itself


def test_an_answer_that_comes_late_lands_in_its_own_camera(page):
    choose_product(page, "Seen late")
    held = []
    page.route("**/api/v1/query", lambda route: held.append(route))
    page.click("#send")
    page.wait_for_selector("#send:has-text('Asking')")
    choose(page, "lane 2")
    assert page.locator("#send").inner_text() == "Ask" and page.locator("#send").is_enabled()
    with page.expect_response("**/api/v1/query"):
        held[0].fulfill(json=answer_of(0.95))
    page.wait_for_selector("#toast:has-text('lane 1 has an answer')")
    assert page.locator("#answer").is_hidden()
    choose(page, "lane 1")
    assert "Scanning" in page.locator("#answer .said").inner_text()


@pytest.mark.parametrize("part", ["memory", "activities", "privacy"])
def test_what_is_known_late_is_not_shown_of_another_camera(page, part):
    held = []

    def hold(route):
        if "lane+1" in route.request.url and not held:
            held.append(route)
        else:
            route.continue_()

    page.route(f"**/api/v1/{part}?*", hold)
    choose(page, "lane 2")
    choose(page, "lane 1")
    for _ in range(100):
        if held:
            break
        page.wait_for_timeout(50)
    choose(page, "lane 2")
    page.wait_for_function("() => document.getElementById('timeline-text').textContent.startsWith('Watched')")
    page.wait_for_timeout(500)
    before = page.locator("#timeline-text").inner_text(), page.locator("#rows").inner_text()
    with page.expect_response(lambda reply: reply.url == held[0].request.url):
        held[0].continue_()
    page.wait_for_timeout(300)
    after = page.locator("#timeline-text").inner_text(), page.locator("#rows").inner_text()
    assert [text.split(".")[0].split(" to ")[0] for text in before] == [
        text.split(".")[0].split(" to ")[0] for text in after
    ]


def test_words_searched_in_the_log_stay_with_their_camera(page):
    page.wait_for_selector("#rows li button")
    page.fill("#log-text", "no such thing")
    page.wait_for_selector("#log-said:has-text('Nothing of the kind')")
    choose(page, "lane 2")
    assert page.locator("#log-text").input_value() == ""
    choose(page, "lane 1")
    assert page.locator("#log-text").input_value() == "no such thing"


def test_quick_switches_end_at_the_camera_that_was_chosen_last(page):
    for _ in range(10):
        for name in ("lane 2", DEAD, "lane 1"):
            page.evaluate(f"document.querySelector('#cameras button[data-name=\"{name}\"]').click()")
    page.wait_for_selector("#veil", state="hidden")
    page.wait_for_selector("#fps:not(:empty)")
    assert page.locator("#cameras [aria-pressed=true]").inner_text().startswith("lane 1")


# -- a dead camera, names, dates -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_dead_camera_says_why_since_when_and_how_often_it_was_tried(browser, site, size):
    with opened(browser, site[0], viewport={"width": size[0], "height": size[1]}) as page:
        choose(page, DEAD)
        page.wait_for_selector("#veil:has-text('tried again')")
        said = page.locator("#veil").inner_text()
        assert re.search(r"No picture since (\w+ \d+ \w+, )?\d\d:\d\d:\d\d \(", said)
        assert "127.0.0.1:9/stream" in said and re.search(r"[Cc]onnection refused", said)
        assert re.search(r"Tried (once|\d+ times); it is tried again\.", said)
        assert page.locator("#state").inner_text().startswith("No picture")
        assert page.locator("#veil").evaluate("(one) => one.scrollHeight <= one.clientHeight + 1")


CUT = {"state": "stalled", "why": "no picture comes", "reconnects": 4, "outage_at": 1.0}
REFUSED = {"state": "failed", "why": "a password is needed", "reconnects": 0, "outage_at": 1.0}
NO_PICTURE = [
    ({"condition": "failed", "error": "the bundle is gone"}, ["has failed since", "The bundle is gone."]),
    (
        {"condition": "running", "source_status": REFUSED},
        ["No picture since Thu 1 Jan", "A password is needed. Tried once"],
    ),
    ({"condition": "running", "source_status": CUT}, ["No picture comes. Tried 5 times"]),
    ({"condition": "paused"}, ["Paused for privacy", "No picture is taken"]),
]


def test_each_kind_of_no_picture_says_what_it_is(browser, site):
    told = {}

    def changed(route):
        known = route.fetch().json()
        for camera in known["cameras"]:
            if camera["camera"] == DEAD:
                camera |= {"condition_at": 1.0, "error": None} | told
        route.fulfill(json=known)

    with fresh(browser, site[0], {"**/api/v1/cameras": changed}, events=False) as page:
        choose(page, DEAD)
        for status, words in NO_PICTURE:
            told = status
            for text in words:
                page.wait_for_selector(f"#veil:has-text({json.dumps(text)})")


OUTSIDE = """() => [...document.querySelectorAll('main button, dialog[open] button, main input')]
  .filter((one) => one.offsetParent && !one.closest('.cameras'))
  .filter((one) => {
    const card = one.closest('.card, dialog').getBoundingClientRect();
    const box = one.getBoundingClientRect();
    return box.left < card.left - 1 || box.right > card.right + 1;
  }).map((one) => one.id || one.textContent)"""
WHOLE = "(one) => one.scrollWidth <= one.clientWidth"


@pytest.mark.parametrize("size", SIZES)
def test_long_names_push_nothing_off_the_page(browser, site, size):
    names = ["W" * 32, DEAD, "ÄÖ 木 " * 8, "a" * 64]
    products = {"products": [{"name": name.strip(), "photos": 1} for name in names]}
    title = names[0]

    def changed(route):
        known = route.fetch().json()
        for camera in known["cameras"]:
            camera["title"] = title
        route.fulfill(json=known)

    routes = {
        "**/api/v1/cameras": changed,
        "**/api/v1/catalogue": lambda route: route.fulfill(json=products),
        "**/photo.jpg": lambda route: route.fulfill(content_type="image/png", body=PIXEL),
    }
    viewport = {"width": size[0], "height": size[1]}
    with fresh(browser, site[0], routes, viewport=viewport, events=False) as page:
        page.wait_for_selector("#product-field:not([hidden])")
        for title in names:
            shown = json.dumps(title.strip(), ensure_ascii=False)
            page.wait_for_selector(f"#cameras button:has-text({shown})")
            choose_product(page, title.strip())
            assert page.evaluate(OUTSIDE) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
            if title == DEAD:  # 32 characters are read whole
                assert page.locator("#cameras .name").first.evaluate(WHOLE)
        page.click("#manage")
        page.wait_for_selector("#products-rows li")
        assert page.evaluate(OUTSIDE) == []


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)
RECORD_TEXT = """window.written = new Set();
  const real = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
    window.written.add(text);
    real.call(this, text, ...at);
  };"""
MIDNIGHT = 1_795_564_800.0  # 2026-11-25 00:00 UTC


@pytest.mark.parametrize(
    "offset, days",
    [("+00:00", ["Tue 24 Nov 2026", "Wed 25 Nov 2026"]), ("+05:30", ["Wed 25 Nov 2026"]),
     ("-08:00", ["Tue 24 Nov 2026"])],
)  # fmt: skip
def test_times_have_their_day_on_the_clock_of_the_device(browser, site, offset, days):
    def changed(route):
        known = route.fetch().json()
        known["coverage"] |= {"epoch": MIDNIGHT - 45, "to": 90.0, "clock_to": f"2026-11-25T00:00:00{offset}"}
        known["on_clock"], known["live"] = True, False
        route.fulfill(json=known)

    rows = [
        {
            "id": n,
            "activity": "scan",
            "from": t,
            "to": t + 2,
            "confidence": 0.996,
            "alternatives": [],
            "ongoing": False,
        }
        for n, t in enumerate((60.0, 2.0))
    ]
    routes = {
        "**/api/v1/memory?*": changed,
        "**/api/v1/activities?*": lambda route: route.fulfill(json={"activities": rows, "more": False}),
    }
    with fresh(browser, site[0], routes, events=False) as page:
        page.add_init_script(RECORD_TEXT)
        page.reload()
        page.wait_for_selector("#rows .day")
        page.wait_for_function("() => [...window.written].some((one) => one.includes('2026'))")
        written = page.evaluate("() => [...window.written].filter((one) => one.includes('2026'))")
        assert set(written) == set(days)
        assert set(page.locator("#rows .day").all_inner_texts()) == set(days)
        assert "over 99 %" in page.locator("#rows").inner_text()


# -- answers -------------------------------------------------------------------------------------------------


SURE = [
    (0.2, "guess", "Only a guess · 20 %"), (0.55, "unsure", "Unsure · 55 %"),
    (0.75, "likely", "Likely · 75 %"), (0.99, "sure", "Sure · 99 %"), (0.9996, "sure", "Sure · over 99 %"),
]  # fmt: skip
LOOKS = """(one) => [getComputedStyle(one).borderLeftStyle,
  getComputedStyle(one.querySelector('.said')).fontWeight]"""


def test_an_answer_says_and_shows_how_sure_it_is(page):
    answer = {}
    page.route("**/api/v1/query", lambda route: route.fulfill(json=answer))
    choose_product(page, "Seen late")
    for confidence, kind, words in SURE:
        answer = answer_of(confidence)
        send_question(page)
        page.wait_for_selector(f"#answer .sureness:has-text('{words}')")
        assert kind in page.locator("#answer").get_attribute("class").split()
        assert (page.locator("#answer").evaluate(LOOKS) == ["solid", "600"]) == (confidence >= 0.7)
        assert "under 1 %" in page.locator("#answer").inner_text()
        assert words in page.locator("#past .number").first.inner_text()


@pytest.mark.parametrize(
    ("share", "words"),
    [
        ([0, 0.4], "It is not known whether anybody watched: at most 40 % of"),
        ([0, 1], "It is not known whether anybody watched: at most all of"),
        ([0.92, 0.93], "Watched 92 % to 93 % of"),
        ([0.4, 0.4], "Watched 40 % of"),
        ([0.995, 1], "Watched over 99 % to 100 % of"),
        ([0.001, 0.001], "Watched under 1 % of"),
        ([1, 1], "Watched "),
    ],
    ids=str,
)
def test_an_answer_says_how_much_was_watched_and_where_that_is_not_known(page, share, words):
    """Nobody is said to have watched, and nobody not to have, where the memory holds only bounds."""
    coverage = {"from": 0.0, "to": 60.0, "watched_share": share, "gaps": []}
    if share != [1, 1]:
        coverage["gaps"] = [{"from": 0.0, "to": 60.0, "reason": None, "watched_share": share}]
    answer = answer_of(0.9, coverage=coverage)
    page.route("**/api/v1/query", lambda route: route.fulfill(json=answer))
    choose_product(page, "Seen late")
    send_question(page)
    page.wait_for_selector("#answer .said")
    said = page.locator("#answer").inner_text()
    assert words in said
    assert ("not known whether" in said) == (share[0] == 0)
    assert "nobody" not in said.lower()


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_is_seen_without_scrolling(browser, site, size):
    with opened(browser, site[0], viewport={"width": size[0], "height": size[1]}) as page:
        page.route("**/api/v1/query", lambda route: route.fulfill(json=answer_of(0.2)))
        choose_product(page, "Seen late")
        send_question(page)
        page.wait_for_timeout(300)
        for part in (".said", ".sureness", ".meter >> nth=0", ".moments"):
            box = page.locator(f"#answer {part}").bounding_box()
            assert 0 <= box["y"] and box["y"] + box["height"] <= size[1], part


def test_words_are_those_of_people(page):
    ask_where(page)
    page.wait_for_selector("#curves polyline")
    shown = page.locator("body").inner_text()
    for unclear in ("Rests on", "tokens", "Engine, a call", "Resident"):
        assert unclear not in shown
    for clear in ("Moments that led to this answer", "memory", "Network takes"):
        assert clear in shown


SMALL = """() => [...document.querySelectorAll(
    'button, a.button, select, input:not([type=file], [type=radio], [type=checkbox]), .check, label > span'
  )].filter((one) => one.offsetParent)
  .map((one) => [one.id || one.textContent || one.className, one.getBoundingClientRect()])
  .filter(([, box]) => box.height < 43.5 || box.width < 43.5)
  .map(([name, box]) => `${name} ${box.width} x ${box.height}`)"""


@pytest.mark.parametrize("size", SIZES)
def test_everything_that_is_touched_is_large_enough(browser, site, size):
    with opened(browser, site[0], viewport={"width": size[0], "height": size[1]}, has_touch=True) as page:
        ask_where(page)
        page.get_by_label(re.compile("What was done")).check()
        choose_product(page, "Seen late")
        assert page.evaluate(SMALL) == []
        for opener, dialog in (
            ("#manage", "#products"),
            ("#forget", "#forget-dialog"),
            ("#log-open", "#log-dialog"),
            ("#help", "#help-dialog"),
        ):
            page.click(opener)
            assert page.evaluate(SMALL) == []
            page.click(f"{dialog} [data-closes]")


# -- products, forgetting, log, help -------------------------------------------------------------------------


def many_products(page, count: int = 1500) -> list[str]:
    names = [f"Product {n:04} {'Crème brûlée' if n % 100 == 7 else 'oat milk'}" for n in range(count)]
    known = {"products": [{"name": name, "photos": 1} for name in names]}
    page.route("**/api/v1/catalogue", lambda route: route.fulfill(json=known))
    page.route("**/photo.jpg", lambda route: route.fulfill(status=200, content_type="image/png", body=PIXEL))
    page.reload()
    page.wait_for_selector("#product[placeholder='Search 1500 products']")
    return names


def test_a_product_of_1500_is_found_by_typing_and_with_the_keyboard_alone(page):
    many_products(page)
    page.locator("#product").focus()
    page.keyboard.type("creme 12")  # without its accents
    options = page.locator("#product-list [role=option]")
    assert options.all_inner_texts() == ["Product 1207 Crème brûlée"]
    page.fill("#product", "creme")
    assert options.count() == 15 and "15 products" in page.locator("#product-said").inner_text()
    for key, place in (
        ("ArrowDown", 1),
        ("ArrowDown", 2),
        ("ArrowUp", 1),
        ("End", 14),
        ("ArrowDown", 0),
        ("ArrowUp", 14),
    ):
        page.keyboard.press(key)
        active = page.locator("#product").get_attribute("aria-activedescendant")
        assert active == f"product-{place}"
        assert page.locator(f"#{active}").get_attribute("aria-selected") == "true"
        assert page.locator("#product-list [aria-selected=true]").count() == 1
    page.keyboard.press("Enter")
    assert page.locator("#chosen .name").inner_text() == "Product 1407 Crème brûlée"
    assert page.locator("#product").get_attribute("aria-expanded") == "false"
    page.fill("#product", "zzz")
    assert options.count() == 0 and 'No product is called "zzz"' in page.locator("#product-said").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#product").input_value() == ""
    page.click("#product")
    assert (
        options.count() == 50
        and "50 of 1500 products are listed" in page.locator("#product-said").inner_text()
    )
    page.click("#product-list [role=option] >> nth=3")
    assert page.locator("#chosen .name").inner_text() == "Product 0003 oat milk"


def test_a_product_is_renamed_and_removed_on_the_page(page, site):
    drag(page, "#stage", (0.15, 0.2), (0.3, 0.5))
    page.click("#use-box")
    page.get_by_label("Product name").fill("Left shelf")
    page.click("#keep-it")
    page.wait_for_selector("#chosen img")
    page.click("#manage")
    page.fill("#products-text", "left")
    page.get_by_role("button", name="Rename Left shelf").click()
    page.get_by_label("New name of Left shelf").fill("no/name")
    page.keyboard.press("Enter")
    page.wait_for_selector("#toast:has-text('A name has none of')")
    page.get_by_label("New name of Left shelf").fill("Top & right shelf")
    page.keyboard.press("Enter")
    page.wait_for_selector("#toast:has-text('Left shelf is called Top & right shelf now')")
    page.fill("#products-text", "right")
    row = page.locator("#products-rows")
    row.get_by_role("button", name="Remove Top & right shelf").click()
    row.get_by_role("button", name="Cancel").click()
    row.get_by_role("button", name="Remove Top & right shelf").click()
    row.get_by_role("button", name="Remove for good").click()
    page.wait_for_selector("#products-said:has-text('No product is called')")
    page.click("#products [data-closes]")
    assert page.locator("#chosen .chip").count() == 0  # it cannot be asked about any more


def gap_reasons(service) -> list[str | None]:
    return [gap.reason for gap in service.camera("lane 2").version.coverage.list_gaps()]


def test_the_selected_time_is_forgotten_after_it_was_said(page, site):
    choose(page, "lane 2")
    page.wait_for_selector("#legend li")
    until = site[1].camera("lane 2").version.coverage.end
    drag(page, "#track", (20 / until, 0.4), (30 / until, 0.4))
    page.click("#forget")
    assert "lane 2" in page.locator("#forget-title").inner_text()
    said = page.locator("#forget-span").inner_text()
    assert (
        said in page.locator("#range-text").inner_text() or page.locator("#range-text").inner_text() in said
    )
    page.click("#forget-dialog [data-closes]")
    assert "forgotten" not in gap_reasons(site[1])
    page.click("#forget")
    with page.expect_response("**/api/v1/forget") as reply:
        page.click("#forget-send")
    assert reply.value.status == 200 and reply.value.request.post_data_json["camera"] == "lane 2"
    page.wait_for_selector("#toast:has-text('Forgotten: ')")
    assert "forgotten" in gap_reasons(site[1])
    assert page.locator("#range-choice").is_hidden() and page.locator("#forget-dialog").is_hidden()


def test_help_tells_the_version_and_the_log_its_newest_lines(page):
    page.route("**/api/v1/log?*", lambda route: route.fulfill(json={"level": "warning", "lines": [
        {"at": MIDNIGHT - 3600, "level": "warning", "logger": "edge_runtime.a", "message": "first"},
        {"at": MIDNIGHT + 86400, "level": "error", "logger": "edge_runtime.b", "message": "<b>last</b>"},
    ]}))  # fmt: skip
    page.click("#help")
    assert re.search(r"lvm-edge \d+\.\d+", page.locator("#version").inner_text())
    page.keyboard.press("Escape")
    assert page.locator("#help-dialog").is_hidden()
    page.click("#log-open")
    page.wait_for_selector("#log-lines .line")
    assert "<b>last</b>" in page.locator("#log-lines .line").first.inner_text()  # newest first, text as text
    assert page.locator("#log-lines .day").count() == 2
    assert "logs.level" in page.locator("#log-level").inner_text()


# -- a sub-path ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/kiosk/", "/kiosk"])
def test_the_page_works_at_a_sub_path(browser, site, path):
    settings = Config.model_validate({"http": {"trusted_proxies": ["127.0.0.1"]}})
    with HttpServer(site[1], "127.0.0.1:0", Run(site[1], settings)) as server:
        more = {"prefix": "/kiosk", "proto": "http"}
        rewrite = strip_prefix("/kiosk", **more)

        def with_host(asked, headers, client):
            return rewrite(asked, headers | {"x-forwarded-host": headers["host"], "host": "upstream"}, client)

        with reverse_proxy(server.address, with_host) as address:
            with opened(browser, address + path.rstrip("/")) as page:
                page.wait_for_selector("html[data-events=listening]")
                paths = page.evaluate(
                    "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"
                )
                assert paths and all(name.startswith("/kiosk/") for name in paths)
                drag(page, "#stage", (0.15, 0.2), (0.3, 0.5))
                page.click("#use-box")
                send_question(page)
