"""The routes of the catalogue, over cameras with engines made of numpy."""

import base64
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from edge_runtime.catalogue.store import Catalogue
from edge_runtime.config.privacy import PrivacySettings
from edge_runtime.config.schema import Config, Objects
from edge_runtime.imaging.decode import read_image
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.service.camera_settings import CameraSettings
from edge_runtime.service.run import Run
from edge_runtime.service.runtime import Service
from tests.catalogue.test_products import photo
from tests.support.cameras import fake_engines

ROUTE = "/api/v1/catalogue"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Has seen five seconds of the demo, its left half veiled."""
    zones = {"till": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}
    with Service(fake_engines()) as service:
        privacy = PrivacySettings.model_validate({"zones": zones})
        service.add(CameraSettings("demo?size=64x48", tmp_path_factory.mktemp("state"), privacy=privacy))
        service.run(5)
        yield service


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue(tmp_path / "catalogue")


@pytest.fixture
def client(service, catalogue):
    run = Run(service, Config(objects=Objects(catalogue=catalogue.folder)))
    return TestClient(make_app(service, run), raise_server_exceptions=False)


def in_base64(image: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1].tobytes()).decode()


def test_a_product_is_shown_photo_by_photo_and_renamed(client):
    place = f"{ROUTE}/{quote('Müsli 50%')}"
    client.put(place, json={"photos": [in_base64(photo(1)), in_base64(photo(2, 30, 20))]})
    shown = client.get(place).json()
    assert shown["name"] == "Müsli 50%"
    assert [(one["width"], one["height"]) for one in shown["photos"]] == [(60, 40), (20, 30)]
    assert read_image(client.get(f"{place}/photo.jpg?number=2").content).shape == (30, 20, 3)
    missing = client.get(f"{place}/photo.jpg?number=3")
    assert missing.status_code == 404 and "has 2 photos, not 3" in missing.json()["error"]
    told = client.put(f"{place}/name", json="Müsli, 1 kg").json()
    assert told == {"before": "Müsli 50%", "name": "Müsli, 1 kg"}
    assert client.get(place).status_code == 404
    assert client.put(f"{ROUTE}/none/name", json="some").status_code == 404
    assert client.put(f"{ROUTE}/{quote('Müsli, 1 kg')}/name", json="../x").status_code == 422
    assert client.put(f"{ROUTE}/{quote('Müsli, 1 kg')}/name", json={"name": "x"}).status_code == 422


def test_a_product_is_added_shown_listed_and_removed(client):
    place = f"{ROUTE}/{quote('Müsli 50%')}"
    body = {"photos": [in_base64(photo(1)), in_base64(photo(2))], "box": [0, 0, 0.5, 1]}
    assert client.put(place, json=body).json() == {"name": "Müsli 50%", "new": 2, "photos": 2}
    assert client.get(ROUTE).json() == {"products": [{"name": "Müsli 50%", "photos": 2}]}
    shown = client.get(f"{place}/photo.jpg")
    assert shown.headers["content-type"] == "image/jpeg" and read_image(shown.content).shape == (40, 30, 3)
    assert client.delete(place).json() == {"name": "Müsli 50%", "removed": 2}
    assert client.get(ROUTE).json() == {"products": []}


def test_what_a_camera_shows_is_added_as_it_was_shown_zones_burnt_in(client, catalogue, service):
    body = {"camera": "demo?size=64x48", "box": [0.25, 0, 0.75, 1], "t": 3}
    assert client.put(f"{ROUTE}/milk", json=body).json()["photos"] == 1
    (kept,) = catalogue.list_photos("milk")
    image = read_image(kept.path)
    assert image.shape == (48, 32, 3)
    assert image[:, :12].std() < 3 < image[:, 20:].std(), "the veiled half is flat, the other one is not"
    newest = client.put(f"{ROUTE}/milk", json={"box": [0, 0, 1, 1]})
    assert newest.json() == {"name": "milk", "new": 1, "photos": 2}


def test_a_form_brings_photos_as_they_are(client, catalogue):
    files = [("photos", (f"{n}.png", base64.b64decode(in_base64(photo(n))))) for n in (1, 2)]
    reply = client.put(f"{ROUTE}/milk", files=files, data={"box": "0,0,0.5,0.5"})
    assert reply.json() == {"name": "milk", "new": 2, "photos": 2}
    assert read_image(catalogue.list_photos("milk")[0].path).shape == (20, 30, 3)
    reply = client.put(f"{ROUTE}/milk", files=files[:1], data={"replace": "true"})
    assert reply.json() == {"name": "milk", "new": 1, "photos": 1}
    for wrong, said in (
        ({"files": files, "data": {"colour": "red"}}, "and nothing else"),
        ({"files": files, "data": {"box": "0,0"}}, "box"),
        ({"files": [("photos", (None, "text"))]}, "photos must be files"),
        ({"files": [("box", (None, "0,0,1,1"))]}, "at least 1 item"),
    ):
        reply = client.put(f"{ROUTE}/tea", **wrong)
        assert reply.status_code == 422 and said in reply.json()["error"]
    assert catalogue.list_products() == ["milk"]


@pytest.mark.parametrize(
    ("name", "body", "status", "said"),
    [
        ("milk", {}, 422, 'name {"photos": [base64]}'),
        ("milk", {"photos": ["%"]}, 422, "a photo must be base64"),
        ("milk", {"photos": ["aaaa"]}, 422, "expected a JPEG"),
        ("milk", {"photos": []}, 422, "at least 1 item"),
        ("milk", {"photos": ["aaaa"], "camera": "x"}, 422, "not both"),
        ("milk", {"box": [0, 0, 2, 1]}, 422, "box must be x1,y1,x2,y2 in 0..1"),
        ("milk", {"box": [0, 0, 1, 1], "t": -1}, 422, "greater than or equal to 0"),
        ("milk", {"box": [0, 0, 1, 1], "camera": "nobody"}, 404, "there is no camera 'nobody'"),
        ("milk", {"box": [0, 0, 1, 1], "colour": "red"}, 422, "Extra inputs"),
        ("..%5Cx", {"box": [0, 0, 1, 1]}, 422, "a product's name is a folder's"),
        (".lock", {"box": [0, 0, 1, 1]}, 422, "a product's name is a folder's"),
    ],
)
def test_what_cannot_be_added_is_one_sentence(client, catalogue, name, body, status, said):
    reply = client.put(f"{ROUTE}/{name}", json=body)
    assert reply.status_code == status and said in reply.json()["error"]
    assert catalogue.list_products() == []


def test_a_product_that_is_not_there_is_not_found(client, catalogue):
    catalogue.add("milk", [photo(1)])
    for reply in (client.get(f"{ROUTE}/mlik/photo.jpg"), client.delete(f"{ROUTE}/mlik")):
        assert reply.status_code == 404 and "nearest is 'milk'" in reply.json()["error"]
    assert client.delete(f"{ROUTE}/..%2Fstate").status_code == 404
    assert catalogue.list_products() == ["milk"]


def test_while_watching_is_paused_no_picture_gets_into_the_catalogue(client, catalogue, service):
    service.pause()
    try:
        for body, status in (({"box": [0, 0, 1, 1]}, 404), ({"box": [0, 0, 1, 1], "t": 3}, 422)):
            assert client.put(f"{ROUTE}/milk", json=body).status_code == status
    finally:
        service.resume()
    assert catalogue.list_products() == []
