"""The OpenAPI document holds: no request ends in a 5xx of ours, and every answer is as it says."""

import base64
import json
import re
from random import Random

import jsonschema
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.config.schema import Config, Objects
from edge_runtime.interfaces.http.app import make_app
from edge_runtime.service.run import Run
from tests.support.from_schema import PHOTO
from tests.support.from_schema import values as allowed_by
from tools.fuzzing.mutate import mutate_json
from tools.fuzzing.small import small_service

ENDLESS = {"/api/v1/cameras/{name}/live.mjpg"}
"""A stream that goes on as long as somebody looks."""
NOT_JSON = re.compile(r"\.jpg$|\.mjpg$|^/$|^/page|^/metrics$")
METHODS = ("get", "put", "post", "delete")
WORDS = ("demo", "scan", "milk", "type", "object", "activity", "camera", "from", "to", "\u0000", "a" * 300)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("document")
    with small_service(folder) as service:
        run = Run(service, Config(objects=Objects(catalogue=folder / "products")))
        yield TestClient(make_app(service, run), raise_server_exceptions=False)


class Document(dict):
    def __repr__(self) -> str:
        return "the document"  # whole it would be pages of every failure


@pytest.fixture(scope="module")
def document(client) -> Document:
    found = client.get("/openapi.json")
    assert found.status_code == 200
    return Document(found.json())


def _operations(document: dict) -> list[tuple[str, str, dict]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS and path not in ENDLESS
    ]


def _check(document: dict, operation: dict, path: str, reply) -> None:
    """One reply against what its operation says."""
    status = str(reply.status_code)
    assert status in operation["responses"] or status == "405", (path, status, reply.text[:300])
    assert reply.status_code < 500 or reply.status_code == 503, (path, reply.text[:300])
    if reply.status_code >= 400:
        if path != "/readyz":
            assert list(reply.json()) == ["error"] and reply.json()["error"].isprintable(), reply.text[:300]
        return
    if NOT_JSON.search(path):
        return
    content = operation["responses"][status].get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    jsonschema.validate(reply.json(), {**schema, "components": document["components"]})


def test_every_route_tells_what_it_answers_and_how_it_refuses(document):
    for method, path, operation in _operations(document):
        told = operation["responses"]
        assert {"200", "401", "403", "404", "413", "422", "429", "503"} <= set(told), (method, path)
        assert told["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
        assert operation.get("summary"), (method, path)
        if not NOT_JSON.search(path):
            schema = told["200"]["content"]["application/json"]["schema"]
            loose = path.startswith("/api/v1/config") and method == "get"
            assert loose or {"$ref", "anyOf"} & set(schema), f"{method} {path} does not tell what it answers"
    taken = [one for one in _operations(document) if "requestBody" in one[2]]
    assert {(method, path) for method, path, _ in taken} >= {
        ("post", "/api/v1/query"), ("put", "/api/v1/config"), ("put", "/api/v1/cameras/{name}/paused")
    }  # fmt: skip


def test_the_examples_of_the_document_are_understood(client, document):
    operation = document["paths"]["/api/v1/query"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        jsonschema.validate(example["value"], {**content["schema"], "components": document["components"]})
        reply = client.post("/api/v1/query", json=example["value"])
        assert "question not understood" not in reply.text
        _check(document, operation, "/api/v1/query", reply)


def test_what_is_read_plainly_is_as_the_document_says(client, document):
    for method, path, operation in _operations(document):
        if method == "get":
            reply = client.get(path.replace("{name}", "demo").replace("{rest}", "x"))
            _check(document, operation, path, reply)


# -- requests by the book ------------------------------------------------------------------------------------


def _taking(document: dict, kind: str) -> list[tuple[str, str, dict, dict]]:
    """Method, path, operation and schema of what takes a body of this media type."""
    found = []
    for method, path, operation in _operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        if kind in content:
            found.append((method, path, operation, content[kind]["schema"]))
    return found


def _send_form(client, method: str, path: str, fields: dict):
    """Files for `photos`, text for the others."""
    photo = ("a.png", base64.b64decode(PHOTO), "image/png")
    files = [("photos", photo) for _ in fields.get("photos", ())]
    files += [(name, (None, one)) for name, one in fields.items() if name != "photos"]
    return client.request(method, path.replace("{name}", "form"), files=files)


NOT_KNOWN = re.compile("no part of|nothing else|Extra inputs|did you mean")


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_body_by_the_document_is_understood_and_answered_as_it_says(client, document, data):
    method, path, operation, schema = data.draw(st.sampled_from(_taking(document, "application/json")))
    body = data.draw(allowed_by(schema, document))
    reply = client.request(method, path.replace("{name}", "demo"), json=body)
    _check(document, operation, path, reply)
    assert not NOT_KNOWN.search(reply.text), (path, body, reply.text)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_form_by_the_document_is_taken(client, document, data):
    method, path, operation, schema = data.draw(st.sampled_from(_taking(document, "multipart/form-data")))
    fields = data.draw(allowed_by(schema, document))
    reply = _send_form(client, method, path, fields)
    assert reply.status_code == 200, (path, fields, reply.text)
    _check(document, operation, path, reply)


def test_what_a_body_must_not_have_or_lack_is_refused(client, document):
    objects = [
        (*one[:2], one[3], kind)
        for kind in ("application/json", "multipart/form-data")
        for one in _taking(document, kind)
        if one[3].get("additionalProperties") is False
    ]
    assert {path for _, path, _, _ in objects} >= {"/api/v1/catalogue/{name}", "/api/v1/forget"}
    for method, path, schema, kind in objects:
        whole = _first(allowed_by({**schema, "properties": _required(schema)}, document))
        wrong = [{**whole, "unheard": "of"}, *({k: v for k, v in whole.items() if k != one} for one in whole)]
        for body in wrong:
            if kind == "application/json":
                reply = client.request(method, path.replace("{name}", "demo"), json=body)
            else:
                reply = _send_form(client, method, path, body or {"": ""})
            assert reply.status_code == 422, (path, kind, body, reply.text)


def _required(schema: dict) -> dict:
    return {name: one for name, one in schema["properties"].items() if name in schema.get("required", ())}


def _first(strategy: st.SearchStrategy) -> dict:
    """One that it allows, always the same."""
    found = []

    @settings(max_examples=1, derandomize=True, database=None)
    @given(strategy)
    def draw(value: dict) -> None:
        found.append(value)

    draw()
    return found[0]


values = st.one_of(
    st.sampled_from(WORDS), st.integers(-5, 10**12).map(str), st.floats().map(str), st.text(max_size=20)
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_of_any_kind_ends_otherwise_than_the_document_says(client, document, data):
    method, path, operation = data.draw(st.sampled_from(_operations(document)))
    known = [one for one in operation.get("parameters", []) if one["in"] == "query"]
    query = {one["name"]: data.draw(values) for one in known if data.draw(st.booleans())}
    name = data.draw(st.one_of(st.just("demo"), st.sampled_from(["..", "%2e%2e", "a%00", "demo%2F", "é"])))
    url = re.sub(r"\{[^}]*\}", lambda _: name, path)
    body: bytes | None = None
    headers = {}
    if method in ("put", "post"):
        headers["content-type"] = data.draw(
            st.sampled_from(["application/json", "multipart/form-data; boundary=a", "text/plain", ""])
        )
        examples = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        seeds = [one["value"] for one in examples.get("examples", {}).values()] or [{"paused": True}, True]
        seed = json.dumps(data.draw(st.sampled_from(seeds))).encode()
        changed = mutate_json(seed, Random(data.draw(st.integers(0, 10**6))), WORDS)
        body = data.draw(st.sampled_from([seed, changed or seed, b"", b"\xff", b"[" * 3000]))
    reply = client.request(method, url, params=query, content=body, headers=headers)
    if re.sub(r"\?.*", "", str(reply.request.url.path)) == url:  # else another route may have answered
        _check(document, operation, path, reply)
    assert reply.status_code < 500 or reply.status_code == 503
