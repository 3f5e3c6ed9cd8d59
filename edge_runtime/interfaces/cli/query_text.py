"""Parse a question in words, as typed on the command line or into the panel of a run."""

from __future__ import annotations

import base64
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.imaging.decode import read_file
from edge_runtime.query.schema import QueryRequest, parse_request
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from engines.errors import LvmError

USAGE = (
    "activity|object|time [--object IMAGE] [--box X1,Y1,X2,Y2@T] [--product NAME] [--activity NAME] "
    "[--from TIME] [--to TIME] [--camera NAME], or a JSON question"
)
MAX_LINE_CHARS = 10_000
"""Of a question in words."""
_PARTS = {
    "activity": ({"object"}, {"object"}),
    "object": ({"activity"}, {"activity"}),
    "time": (set(), {"object", "activity"}),
}
"""What each type of question needs, and what it may have."""
_OPTIONS_OF = {
    "object": "--object PHOTO, --box X1,Y1,X2,Y2@T or --product NAME",
    "activity": "--activity NAME",
}
_OPTIONS = {"--object", "--box", "--product", "--activity", "--from", "--to", "--camera"}


@dataclass
class QueryText:
    """The parts of a question. `body` returns them as the JSON that every interface takes.

    `start` and `end` are seconds or clock times, which are read where the camera is.
    """

    type: str
    photos: Sequence[Path] = ()
    box: str | None = None
    product: str | None = None
    activity: str | None = None
    start: str | None = None
    end: str | None = None
    camera: str | None = None

    def body(self) -> dict[str, Any]:
        """Return the question as JSON data, photos in base64.

        Raises QueryError for what is missing or too much, and if a photo cannot be read.
        """
        if self.type not in _PARTS:
            raise QueryError(f"type must be activity, object or time, got {printable(self.type[:50])!r}")
        body: dict[str, Any] = {"type": self.type}
        queried = self._object_body()
        needed, allowed = _PARTS[self.type]
        given = {"object": queried, "activity": self.activity}
        for part, options in _OPTIONS_OF.items():
            if given[part] is None and part in needed:
                raise QueryError(f"a question of type {self.type} needs {options}")
            if given[part] is not None and part not in allowed:
                raise QueryError(f"a question of type {self.type} takes no {options}: it asks for that")
        if self.type == "time" and queried is None and self.activity is None:
            raise QueryError(f"a question of type time needs {' or '.join(_OPTIONS_OF.values())}")
        if queried is not None:
            body["object"] = queried
        if self.activity is not None:
            body["activity"] = self.activity
        for key, value in (("from", self.start), ("to", self.end)):
            if value is not None:
                body[key] = _to_number(f"--{key}", value)
        return body

    def request(self) -> QueryRequest:
        camera = {} if self.camera is None else {"camera": self.camera}
        return parse_request(json.dumps(self.body() | camera))

    def _object_body(self) -> dict[str, Any] | None:
        given = [
            name
            for name, value in (("--object", self.photos), ("--box", self.box), ("--product", self.product))
            if value
        ]
        if len(given) > 1:
            raise QueryError(f"name the object once, got {' and '.join(given)}")
        if self.photos:
            return {"photos": [_encode_photo(path) for path in self.photos]}
        if self.box:
            return parse_box(self.box)
        return {"product": self.product} if self.product else None


def parse_line(line: str) -> QueryRequest:
    """Parse a typed line: words as on the command line, or JSON. Raises QueryError."""
    if line.lstrip().startswith("{"):
        return parse_request(line)
    if len(line) > MAX_LINE_CHARS:  # shlex reads it character by character, which is slow
        raise QueryError(f"a question in words has at most {MAX_LINE_CHARS} letters, got {len(line)}")
    try:
        parts = shlex.split(line)
    except ValueError as error:
        raise QueryError(f"question not understood: {error}; expected {USAGE}") from None
    if parts[:1] == ["ask"]:
        parts = parts[1:]
    if not parts:
        raise QueryError(f"expected {USAGE}")
    return _parse_words(parts[0], parts[1:]).request()


def _parse_words(question_type: str, rest: list[str]) -> QueryText:
    values: dict[str, list[str]] = {}
    while rest:
        option = rest.pop(0)
        if option not in _OPTIONS or not rest:
            raise QueryError(f"{option[:50]!r} is not understood or lacks its value; expected {USAGE}")
        values.setdefault(option, []).append(rest.pop(0))
    last = {option: given[-1] for option, given in values.items()}
    return QueryText(
        question_type,
        photos=[Path(path) for path in values.get("--object", [])],
        box=last.get("--box"),
        product=last.get("--product"),
        activity=last.get("--activity"),
        start=last.get("--from"),
        end=last.get("--to"),
        camera=last.get("--camera"),
    )


def _to_number(option: str, text: str) -> float | str:
    """Return seconds as a number, a clock time as it is. Raises QueryError for NaN and Inf."""
    try:
        seconds = float(text)
    except ValueError:
        return text
    if not math.isfinite(seconds):
        raise QueryError(f"{option} must be a number of seconds, got {seconds}")
    return seconds


def parse_box(text: str) -> dict[str, Any]:
    """Parse X1,Y1,X2,Y2@T into the JSON of a box in a frame. T is read where the camera is. Raises
    QueryError."""
    corners, _, moment = text.partition("@")
    try:
        box = [float(part) for part in corners.split(",")]
        if len(box) != 4 or not moment.strip():
            raise ValueError
        return {"box": box, "t": _to_number("--box", moment.strip())}
    except ValueError:
        raise QueryError(
            f"--box must be X1,Y1,X2,Y2@T with corners in 0..1 and T as --from, got {text[:50]!r}"
        ) from None


def _encode_photo(path: Path) -> str:
    try:
        return base64.b64encode(read_file(path)).decode()
    except LvmError as error:
        raise QueryError(f"photo {error}") from error
