"""The three questions (ReST), one tagged union for Python, JSON, HTTP and the command line.

    {"type": "activity", "object": {"photos": ["…"]}, "from": 0, "to": 60}   what was done with this object?
    {"type": "object", "activity": "scan", "from": 0, "to": 60}     where was what this was done on?
    {"type": "time", "activity": "scan", "object": {...}}           when was this done with it?
    {"type": "time", "activity": "scan"}                            when was it done at all?

`from` and `to` are seconds on the stream's clock; left out they mean the whole memory. A request may have
them as text too, as clock times, which only the camera can turn into seconds.
"""

from __future__ import annotations

import base64
import difflib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from edge_runtime.catalogue.photos import MAX_PHOTOS
from edge_runtime.query.timestamps import EXPECTED, MAX_CHARS, MAX_MOMENT, NAMES, TimeReader
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from edge_runtime.system.validation import StrictModel, describe_first_problem

MAX_PHOTO_TEXT = 70_000_000
"""Characters of one base64 photo: 50 MB of picture."""

MAX_QUESTION_BYTES = MAX_PHOTO_TEXT + 4096
"""Bytes of one question as JSON, at every interface."""

MAX_SECONDS = MAX_MOMENT
"""31 years: no stream is longer, and a video's clock counts not much further."""

KEYS = ("type", "object", "activity", "from", "to", "photos", "box", "t", "product")
"""All fields of questions, for suggestions."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_TIME_OF_REQUEST: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": -MAX_SECONDS, "maximum": MAX_SECONDS},
        {"type": "string", "description": EXPECTED, "maxLength": MAX_CHARS},
        {"type": "null"},
    ]
}
"""`from` and `to` in the JSON schema: what a request may have, before it is resolved."""
_TIME_OF_BOX: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
        {"type": "string", "description": EXPECTED, "maxLength": MAX_CHARS},
    ]
}
_WINDOW_ONLY = {"type": "object", "activity": "any"}
"""A question to check a time with."""


class _Part(StrictModel):
    model_config = ConfigDict(populate_by_name=True)


class Photos(_Part):
    """One or several photos of the product, base64 of any common picture format; several are pooled."""

    photos: tuple[bytes, ...] = Field(min_length=1, max_length=MAX_PHOTOS)

    @field_validator("photos", mode="before")
    @classmethod
    def _decode(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return tuple(_decode_base64(photo) if isinstance(photo, str) else photo for photo in value)


class BoxInFrame(_Part):
    """The object inside `box` (x1, y1, x2, y2 in 0..1) of the picture at `t` seconds."""

    box: tuple[float, float, float, float]
    t: float = Field(ge=0, le=MAX_SECONDS, json_schema_extra=_TIME_OF_BOX)

    @field_validator("box")
    @classmethod
    def _ordered(cls, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = box
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise ValueError(f"box must be x1,y1,x2,y2 in 0..1 with x1 < x2 and y1 < y2, got {list(box)}")
        return box


class Product(_Part):
    """A product by its name in the catalogue folder of the configuration."""

    product: Name


def _kind_of_object(value: Any) -> str | None:
    """Return the key that only one kind has, so that JSON needs no tag."""
    for kind in ("photos", "box", "product"):
        if (kind in value) if isinstance(value, dict) else hasattr(value, kind):
            return kind
    return None


Object = Annotated[
    Annotated[Photos, Tag("photos")] | Annotated[BoxInFrame, Tag("box")] | Annotated[Product, Tag("product")],
    Discriminator(
        _kind_of_object,
        custom_error_type="object",
        custom_error_message='object must be {"photos": [base64]}, {"box": [x1,y1,x2,y2], "t": s} or '
        '{"product": name}',
    ),
]


class _Query(_Part):
    start: float | None = Field(
        default=None, alias="from", ge=-MAX_SECONDS, le=MAX_SECONDS, json_schema_extra=_TIME_OF_REQUEST
    )
    end: float | None = Field(
        default=None, alias="to", ge=-MAX_SECONDS, le=MAX_SECONDS, json_schema_extra=_TIME_OF_REQUEST
    )

    @model_validator(mode="after")
    def _window(self) -> _Query:
        if self.start is not None and self.end is not None and not self.start < self.end:
            raise ValueError(f"from must be before to, got from {self.start} to {self.end}")
        return self


class ActivityQuery(_Query):
    type: Literal["activity"] = "activity"
    object: Object


class ObjectQuery(_Query):
    type: Literal["object"] = "object"
    activity: Name


class TimeQuery(_Query):
    """When was this done with the object; without an activity: when was anything done with it; without an
    object: when was this done at all, by the activity log."""

    type: Literal["time"] = "time"
    activity: Name | None = None
    object: Object | None = None

    @model_validator(mode="after")
    def _about_something(self) -> TimeQuery:
        if self.object is None and self.activity is None:
            raise ValueError("object is missing; a question about time needs object, activity or both")
        return self


def _type_of(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if isinstance(kind, str) else None


Query = Annotated[
    Annotated[ActivityQuery, Tag("activity")]
    | Annotated[ObjectQuery, Tag("object")]
    | Annotated[TimeQuery, Tag("time")],
    Discriminator(
        _type_of, custom_error_type="type", custom_error_message="type must be activity, object or time"
    ),
]

AnyQuery = ActivityQuery | ObjectQuery | TimeQuery
_adapter: TypeAdapter[AnyQuery] = TypeAdapter(Query)


@dataclass(frozen=True)
class QueryRequest:
    """A question and the name of the camera that it is put to; None means the only camera.

    `times` are `from` and `to` as they were given; `query` has them where both are seconds or left out.
    `box_time` is the `t` of a box where that is a text, else None.
    """

    query: AnyQuery
    camera: str | None = None
    times: tuple[float | str | None, float | str | None] = (None, None)
    box_time: str | None = None

    def resolve(
        self, reader: TimeReader, names: tuple[str, str] = NAMES, box_name: str = "object.t"
    ) -> AnyQuery:
        """Return the question with its times in seconds of the stream. Raises LvmError, which calls the times
        `names` and `box_name`."""
        query = self._resolve_span(reader, names)
        box = getattr(query, "object", None)
        if self.box_time is None or not isinstance(box, BoxInFrame):
            return query
        seconds = reader.read_moment(self.box_time, box_name)
        return query.model_copy(update={"object": box.model_copy(update={"t": seconds})})

    def _resolve_span(self, reader: TimeReader, names: tuple[str, str]) -> AnyQuery:
        if not any(isinstance(t, str) for t in self.times):
            return self.query
        first, last = (None if t is None else str(t) for t in self.times)
        start, end = reader.read_span(first, last, names)
        limited = {"start": _limit(start), "end": _limit(end)}
        return self.query.model_copy(update=limited)


def _limit(t: float | None) -> float | None:
    return None if t is None else min(max(t, -MAX_SECONDS), MAX_SECONDS)


def parse_request(text: str | bytes) -> QueryRequest:
    """Read a question from JSON, with an optional field `camera`: `{"camera": "lane1", "type": …}`.

    Raises QueryError with the first problem, in one sentence.
    """
    return make_request(_read_json(text))


def parse_query(text: str | bytes) -> AnyQuery:
    """Read a question that names no camera from JSON. Raises as `parse_request`."""
    return _validate(_read_json(text))


def make_request(fields: Any) -> QueryRequest:
    """Make a request of fields that are read already; photos may be bytes. Raises as `parse_request`."""
    if not isinstance(fields, dict):
        return QueryRequest(_validate(fields))
    camera = fields.get("camera")
    if camera is not None and not isinstance(camera, str):
        raise QueryError("camera must be the name of a camera")
    box, box_time = fields.get("object"), None
    if isinstance(box, dict) and "box" in box and isinstance(box.get("t"), str):
        # A clock time, which only the camera can read.
        box_time, fields = box["t"], {**fields, "object": {**box, "t": 0.0}}
    start, end = (fields.get(key) for key in NAMES)
    is_text = isinstance(start, str) or isinstance(end, str)
    without = {"camera", *(NAMES if is_text else ())}
    query = _validate({key: value for key, value in fields.items() if key not in without})
    if not is_text:
        return QueryRequest(query, camera, box_time=box_time)
    if not isinstance(start, str):
        start = _validate({**_WINDOW_ONLY, "from": start}).start
    if not isinstance(end, str):
        end = _validate({**_WINDOW_ONLY, "to": end}).end
    return QueryRequest(query, camera, (start, end), box_time)


def _read_json(text: str | bytes) -> Any:
    if len(text) > MAX_QUESTION_BYTES:
        raise QueryError(f"a question has at most {MAX_QUESTION_BYTES} bytes, got {len(text)}")
    try:
        return from_json(text.encode() if isinstance(text, str) else text)
    except ValueError as error:
        raise QueryError(printable(f"question not understood: Invalid JSON: {error}")[:400]) from None


def _validate(fields: Any) -> AnyQuery:
    try:
        return _adapter.validate_python(fields)
    except ValidationError as error:
        raise QueryError(f"question not understood: {_problem(error)}") from None


def _problem(error: ValidationError) -> str:
    """Say where and what the first problem is; the input itself is never repeated whole."""
    problem = error.errors(include_url=False, include_context=False)[0]
    # The first part is the kind of question, which the person knows.
    where = ".".join(str(part) for part in problem["loc"][1:])[:100]
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(problem["loc"][-1])[:50].casefold(), KEYS, 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near and near[0] != problem["loc"][-1] else ""
        return printable(f"{where} is no part of this kind of question{hint}")
    # A person wrote JSON, in which a tuple is an array.
    return describe_first_problem(error, skip=1, max_chars=400).replace("a valid tuple", "a valid array")


def _decode_base64(text: str) -> bytes:
    if len(text) > MAX_PHOTO_TEXT:
        raise ValueError(f"a photo must have at most {MAX_PHOTO_TEXT} base64 characters, got {len(text)}")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or ValueError itself for letters beyond ASCII
        raise ValueError("a photo must be base64") from None
