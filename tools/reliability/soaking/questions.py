"""The fixed questions of a soak, over HTTP, and whether what comes back is an answer."""

from __future__ import annotations

import base64
import http.client
import json
import time
from dataclasses import dataclass

from pydantic import ValidationError

from edge_runtime.query.answers import Answer
from edge_runtime.sources.demo import parse_demo
from tools.reliability.soaking.process import Edge


@dataclass(frozen=True)
class Asked:
    """A question, how long it took, and what is wrong with the answer."""

    kind: str
    camera: str
    seconds: float
    wrong: str | None


class Questions:
    """Each kind in turn, to each camera in turn; the same ones from the first second to the last."""

    def __init__(self, cameras: list[str], demo: str) -> None:
        photo = base64.b64encode(parse_demo(demo).make_world().encode_photo(0, side_px=128)).decode()
        about = {"photos": [photo]}
        kinds: list[dict[str, object]] = [
            {"type": "activity", "object": about},
            {"type": "object", "activity": "scan"},
            {"type": "time", "activity": "scan", "object": about},
        ]
        self._all = [kind | {"camera": camera} for camera in cameras for kind in kinds]
        self._next = 0

    def ask(self, edge: Edge, faulty: bool) -> Asked:
        """The next one; `faulty`: while the engines fail, a sentence that says so is right."""
        question = self._all[self._next % len(self._all)]
        self._next += 1
        began = time.monotonic()
        try:
            status, body = edge.request("POST", "/api/v1/query", json.dumps(question).encode())
            wrong = _wrong(str(question["type"]), status, body, faulty)
        except (OSError, http.client.HTTPException) as error:
            wrong = f"no answer: {error or type(error).__name__}"
        return Asked(str(question["type"]), str(question["camera"]), time.monotonic() - began, wrong)


def _wrong(kind: str, status: int, body: bytes, faulty: bool) -> str | None:
    if faulty and status == 422 and "error" in json.loads(body):
        return None
    if status != 200:
        return f"status {status}: {body[:200].decode(errors='replace')}"
    try:
        answer = Answer.model_validate_json(body)
    except ValidationError as error:
        return f"not an answer: {error.errors(include_url=False)[0]}"
    if answer.type != kind or not 0 <= answer.confidence <= 1 or not answer.answer:
        return f"not an answer to {kind}: {body[:200].decode(errors='replace')}"
    return None
