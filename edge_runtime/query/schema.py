"""The three questions (ReST), one tagged union everywhere: Python, JSON, HTTP, command line.

    {"type": "activity", "object": {"photos": ["…"]}, "from": 0, "to": 60}   what was done with this object?
    {"type": "object", "activity": "scan", "from": 0, "to": 60}     where was what this was done on?
    {"type": "time", "activity": "scan", "object": {...}}           when was this done with it?

`from` and `to` are seconds on the stream's clock; left out they mean all that was watched.
"""

from __future__ import annotations

import base64
import difflib
import math
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
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable
from edge_runtime.system.validation import StrictModel, describe_first_problem

MAX_PHOTO_TEXT = 70_000_000
"""Characters of one base64 photo: 50 MB of picture."""

MAX_QUESTION_BYTES = MAX_PHOTO_TEXT + 4096
"""Of one question as JSON, whichever door it comes through."""

MAX_SECONDS = 1e9
"""31 years: no stream is longer, and a video's clock cannot count much further."""

KEYS = ("type", "object", "activity", "from", "to", "photos", "box", "t", "product")
"""All that a question may say."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


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
        return tuple(_decoded(one) if isinstance(one, str) else one for one in value)


class BoxInFrame(_Part):
    """What lies in `box` (x1, y1, x2, y2 in 0..1) of the picture shown at `t` seconds."""

    box: tuple[float, float, float, float]
    t: float = Field(ge=0, le=MAX_SECONDS)

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
    """The key that only one kind has, so that JSON needs no tag beside it."""
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
    start: float | None = Field(default=None, alias="from", ge=-MAX_SECONDS, le=MAX_SECONDS)
    end: float | None = Field(default=None, alias="to", ge=-MAX_SECONDS, le=MAX_SECONDS)

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
    """When was this done with the object; without an activity: when was anything done with it."""

    type: Literal["time"] = "time"
    activity: Name | None = None
    object: Object


def _type_of(value: Any) -> str | None:
    found = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return found if isinstance(found, str) else None


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
    """A question and the name of the camera that it is put to; None means the only camera."""

    query: AnyQuery
    camera: str | None = None


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
    if not isinstance(fields, dict) or "camera" not in fields:
        return QueryRequest(_validate(fields))
    camera = fields["camera"]
    if camera is not None and not isinstance(camera, str):
        raise QueryError("camera must be the name of a camera")
    return QueryRequest(_validate({key: fields[key] for key in fields if key != "camera"}), camera)


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


def finite(name: str, value: float | None) -> float | None:
    """Refuse NaN and Inf from a command line, where pydantic has not looked yet."""
    if value is not None and not math.isfinite(value):
        raise QueryError(f"{name} must be a number of seconds, got {value}")
    return value


def _decoded(text: str) -> bytes:
    if len(text) > MAX_PHOTO_TEXT:
        raise ValueError(f"a photo must have at most {MAX_PHOTO_TEXT} base64 characters, got {len(text)}")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or ValueError itself for letters beyond ASCII
        raise ValueError("a photo must be base64") from None
