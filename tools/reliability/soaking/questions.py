"""Ask the fixed questions of a soak over HTTP, and check that the replies are answers."""

from __future__ import annotations

import base64
import http.client
import json
import time
from dataclasses import dataclass

from pydantic import ValidationError

from edge_runtime.query.answers import Answer
from edge_runtime.sources.demo import parse_demo
from tools.reliability.soaking.process import EdgeProcess


@dataclass(frozen=True)
class AskedQuestion:
    """A question, how long its answer took, and the problem with the answer, if any."""

    kind: str
    camera: str
    seconds: float
    problem: str | None


class Questions:
    """The same questions from the first second to the last: each kind in turn, for each camera in turn."""

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

    def ask_next(self, edge: EdgeProcess, engines_fail: bool) -> AskedQuestion:
        """Ask the next question. While `engines_fail`, an error message counts as a right answer."""
        question = self._all[self._next % len(self._all)]
        self._next += 1
        began = time.monotonic()
        try:
            status, body = edge.request("POST", "/api/v1/query", json.dumps(question).encode())
            problem = find_problem(str(question["type"]), status, body, engines_fail)
        except (OSError, http.client.HTTPException) as error:
            problem = f"no answer: {error or type(error).__name__}"
        return AskedQuestion(
            str(question["type"]), str(question["camera"]), time.monotonic() - began, problem
        )


def find_problem(kind: str, status: int, body: bytes, engines_fail: bool) -> str | None:
    if engines_fail and status == 422 and "error" in json.loads(body):
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
