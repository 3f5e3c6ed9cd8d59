"""One question by every way: command line (from disk, over HTTP), HTTP, MQTT, Python, page. One answer."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from edge_runtime import Memory
from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.paths import default_bundle
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.cli.main import app
from edge_runtime.interfaces.startup import component_lifespan
from edge_runtime.query.schema import parse_request
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.engine_pool import Engines
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from edge_runtime.sources import read_frame_at
from engines.bundle import Bundle
from tests.support.broker import MOSQUITTO, Broker, Subscriber, wait_until
from tests.support.browser import chromium, drag, open_page
from tests.support.browser import send_question as asked_on_page

DEMO = "demo?size=320x180"
SECONDS = 90
PRODUCT = "Oat milk"


def cut() -> NDArray[np.uint8]:
    """What lies in the middle of the picture at one moment."""
    return read_frame_at(DEMO, 20.0).image[40:140, 100:220]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ways")


@pytest.fixture(scope="module")
def broker(folder: Path) -> Iterator[Broker | None]:
    if MOSQUITTO is None:
        yield None
        return
    with Broker(folder) as broker:
        yield broker


@pytest.fixture(scope="module")
def run(folder: Path, broker: Broker | None) -> Iterator[Run]:
    """A run that has watched its demo and still answers, with all that accompanies it."""
    mqtt = {"enabled": True, "host": "127.0.0.1", "port": broker.port} if broker else {}
    products = folder / "catalogue"
    Catalogue(products).add(PRODUCT, [cut()])
    settings = Config.model_validate(
        {"mqtt": mqtt, "activities": {"enabled": False}, "objects": {"catalogue": str(products)}}
    )
    with Service(Engines.load(Bundle.open(default_bundle()), "onnxruntime", threads=1)) as service:
        service.add(CameraSettings(DEMO, folder / "state", catalogue=products))
        with component_lifespan(Run(service, settings, listen="127.0.0.1:0")) as run:
            service.run(SECONDS)
            yield run


@pytest.fixture(scope="module")
def photo(folder: Path) -> Path:
    cv2.imwrite(str(folder / "photo.png"), cv2.cvtColor(cut(), cv2.COLOR_RGB2BGR))
    return folder / "photo.png"


def questions(photo: Path) -> dict[str, dict[str, Any]]:
    photos = {"photos": [base64.b64encode(photo.read_bytes()).decode()]}
    return {
        "activity": {"type": "activity", "object": photos, "from": 5, "to": 80},
        "object": {"type": "object", "activity": "scan"},
        "time": {"type": "time", "activity": "scan", "object": {"box": [0.3, 0.3, 0.7, 0.8], "t": 20}},
        "product": {"type": "time", "object": {"product": PRODUCT}, "from": 5, "to": 80},
    }


OPTIONS = {
    "activity": ["activity", "--object", "PHOTO", "--from", "5", "--to", "80"],
    "object": ["object", "--activity", "scan"],
    "time": ["time", "--activity", "scan", "--box", "0.3,0.3,0.7,0.8@20"],
    "product": ["time", "--product", PRODUCT, "--from", "5", "--to", "80"],
}


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without the fields that differ between two calls."""
    return {key: value for key, value in answer.items() if key != "milliseconds"}


@pytest.fixture(scope="module", params=list(OPTIONS))
def send_question(
    request: pytest.FixtureRequest, run: Run, photo: Path
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The kind, the question, and what the service itself answers."""
    question = questions(photo)[request.param]
    answer = run.service.ask(parse_request(json.dumps(question)))
    assert answer.evidence and answer.coverage.end in (80, SECONDS)
    fields = comparable(answer.model_dump(mode="json"))
    assert fields.get("activity") == question.get("activity"), "an answer says which activity was asked about"
    return request.param, question, fields


def test_http(run: Run, send_question: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    _, question, answer = send_question
    response = httpx.post(f"{run.address}/api/v1/query", json=question, timeout=30)
    assert response.status_code == 200 and comparable(response.json()) == answer


def test_http_with_the_photo_as_a_file(run: Run, photo: Path) -> None:
    question = questions(photo)["activity"]
    answer = run.service.ask(parse_request(json.dumps(question)))
    bare = json.dumps({key: value for key, value in question.items() if key != "object"})
    files = {"photos": ("photo.png", photo.read_bytes(), "image/png")}
    response = httpx.post(f"{run.address}/api/v1/query", data={"query": bare}, files=files, timeout=30)
    assert response.status_code == 200 and comparable(response.json()) == comparable(
        answer.model_dump(mode="json")
    )


@pytest.mark.parametrize("way", ["--state", "--url"])
def test_the_command_line(
    run: Run, folder: Path, photo: Path, send_question: tuple[str, dict[str, Any], dict[str, Any]], way: str
) -> None:
    kind, _, answer = send_question
    where = str(folder / "state") if way == "--state" else str(run.address)
    words = [str(photo) if word == "PHOTO" else word for word in OPTIONS[kind]]
    products = ["--catalogue", str(folder / "catalogue")] if way == "--state" else []
    asking = ["ask", *words, way, where, *products, "--backend", "onnxruntime", "--json"]
    done = CliRunner().invoke(app, asking)
    assert done.exit_code == 0, done.output
    assert comparable(json.loads(done.output.splitlines()[-1])) == answer


def test_mqtt(
    run: Run, broker: Broker | None, send_question: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    if broker is None:
        pytest.skip("no mosquitto: apt install mosquitto")
    kind, question, answer = send_question
    with Subscriber(broker.port) as ear:
        topic = f"lvm/query/response/{kind}"
        ear.publish("lvm/query/request", json.dumps({"id": kind, **question}))
        wait_until(lambda: ear.all(topic), "the answer")
        message = json.loads(ear.all(topic)[0])
    assert comparable({key: value for key, value in message.items() if key in answer}) == answer


def test_python(folder: Path, photo: Path, send_question: tuple[str, dict[str, Any], dict[str, Any]]) -> None:
    kind, _, answer = send_question
    products = folder / "catalogue"
    with Memory.load(folder / "state", backend="onnxruntime", threads=1, catalogue=products) as memory:
        result = {
            "activity": lambda: memory.activity(photo, start=5, end=80),
            "object": lambda: memory.object("scan"),
            "time": lambda: memory.time("scan", box=(0.3, 0.3, 0.7, 0.8), at=20),
            "product": lambda: memory.time(object=PRODUCT, start=5, end=80),
        }[kind]()
    assert comparable(result.model_dump(mode="json")) == answer


def test_the_page(run: Run, photo: Path) -> None:
    """As a person does: a photo, an activity, a product of the catalogue, and a time that is dragged.

    A box in the picture is no question of its own there: what was seen in it is cut out and sent as a photo.
    """
    expected = {
        kind: comparable(run.service.ask(parse_request(json.dumps(question))).model_dump(mode="json"))
        for kind, question in questions(photo).items()
    }
    with chromium() as browser:
        page, wrong = open_page(browser, str(run.address))
        page.wait_for_selector("#legend li")
        seen: dict[str, str] = {}

        def ask(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
            both = asked_on_page(page)
            seen[kind] = page.locator("#answer").inner_text()
            return both

        page.set_input_files("#photo", photo)
        page.wait_for_selector("#chosen canvas")
        page.click("#zoom-all")
        drag(page, "#track", (5 / SECONDS, 0.4), (80 / SECONDS, 0.4))
        results = {"activity": ask("activity")}
        page.get_by_label(re.compile("When was it")).check()
        page.fill("#product", PRODUCT)
        page.keyboard.press("Enter")
        page.wait_for_selector("#chosen img")
        results["product"] = ask("product")
        page.get_by_label(re.compile("Where was it")).check()
        page.get_by_role("radio", name="All", exact=True).check()
        page.select_option("#activity", "scan")
        results["object"] = ask("object")
        page.close()
    for kind, (question, answer) in results.items():
        question_body = questions(photo)[kind]
        assert {"from": question.get("from"), "to": question.get("to")} == {
            "from": question_body.get("from"),
            "to": question_body.get("to"),
        }
        assert comparable(answer) == expected[kind], kind
        text = "It was not seen." if answer["abstained"] else f"{100 * answer['confidence']:.0f} %"
        assert text in seen[kind], kind
    assert wrong == []
