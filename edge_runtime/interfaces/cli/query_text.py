"""One question as a person types it: the same words on the command line and in the running panel."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.imaging.decode import contents
from edge_runtime.query.schema import AnyQuery, QueryRequest, finite, parse_request
from edge_runtime.system.errors import QueryError
from engines.errors import LvmError

USAGE = (
    "activity|object|time [--object IMAGE] [--box X1,Y1,X2,Y2@T] [--product NAME] [--activity NAME] "
    "[--from S] [--to S] [--camera NAME], or a JSON question"
)
MAX_WORDS = 10_000
_OPTIONS = {"--object", "--box", "--product", "--activity", "--from", "--to", "--camera"}


@dataclass
class Words:
    """What was typed; `body` makes it the JSON that every door understands."""

    type: str
    photos: Sequence[Path] = ()
    box: str | None = None
    product: str | None = None
    activity: str | None = None
    start: float | None = None
    end: float | None = None
    camera: str | None = None

    def body(self) -> dict[str, Any]:
        """The question as JSON data, photos as base64. Raises QueryError for a file that cannot be read."""
        body: dict[str, Any] = {"type": self.type}
        if (wanted := self._object()) is not None:
            body["object"] = wanted
        if self.activity is not None:
            body["activity"] = self.activity
        for key, value in (("from", self.start), ("to", self.end)):
            if finite(f"--{key}", value) is not None:
                body[key] = value
        return body

    def query(self) -> AnyQuery:
        return self.request().query

    def request(self) -> QueryRequest:
        camera = {} if self.camera is None else {"camera": self.camera}
        return parse_request(json.dumps(self.body() | camera))

    def _object(self) -> dict[str, Any] | None:
        given = [
            name
            for name, value in (("--object", self.photos), ("--box", self.box), ("--product", self.product))
            if value
        ]
        if len(given) > 1:
            raise QueryError(f"name the object once, got {' and '.join(given)}")
        if self.photos:
            return {"photos": [_base64(path) for path in self.photos]}
        if self.box:
            return typed_box(self.box)
        return {"product": self.product} if self.product else None


def typed(line: str) -> QueryRequest:
    """A question from one typed line: words as on the command line, or JSON. Raises QueryError."""
    if line.lstrip().startswith("{"):
        return parse_request(line)
    if len(line) > MAX_WORDS:  # a letter at a time is slow
        raise QueryError(f"a question in words has at most {MAX_WORDS} letters, got {len(line)}")
    try:
        parts = shlex.split(line)
    except ValueError as error:
        raise QueryError(f"question not understood: {error}; expected {USAGE}") from None
    if parts[:1] == ["ask"]:
        parts = parts[1:]
    if not parts:
        raise QueryError(f"expected {USAGE}")
    return _words(parts[0], parts[1:]).request()


def _words(kind: str, rest: list[str]) -> Words:
    values: dict[str, list[str]] = {}
    while rest:
        option = rest.pop(0)
        if option not in _OPTIONS or not rest:
            raise QueryError(f"{option[:50]!r} is not understood or lacks its value; expected {USAGE}")
        values.setdefault(option, []).append(rest.pop(0))
    one = {option: given[-1] for option, given in values.items()}
    return Words(
        kind,
        photos=[Path(path) for path in values.get("--object", [])],
        box=one.get("--box"),
        product=one.get("--product"),
        activity=one.get("--activity"),
        start=_seconds("--from", one.get("--from")),
        end=_seconds("--to", one.get("--to")),
        camera=one.get("--camera"),
    )


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise QueryError(f"{option} must be seconds, got {text[:50]!r}") from None


def typed_box(text: str) -> dict[str, Any]:
    corners, _, t = text.partition("@")
    try:
        box = [float(part) for part in corners.split(",")]
        if len(box) != 4:
            raise ValueError
        return {"box": box, "t": float(t)}
    except ValueError:
        raise QueryError(
            f"--box must be X1,Y1,X2,Y2@T with corners in 0..1 and T in seconds, got {text[:50]!r}"
        ) from None


def _base64(path: Path) -> str:
    try:
        return base64.b64encode(contents(path)).decode()
    except LvmError as error:
        raise QueryError(f"photo {error}") from error
