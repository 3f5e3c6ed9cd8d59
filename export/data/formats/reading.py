"""Read XML, JSON, CSV and text so that everything wrong can be reported with its line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar
from xml.parsers import expat

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import LvmError
from export.data.formats.forms import InvalidFile, Place, Report
from export.support.errors import first_complaint

MAX_DEPTH = 100
"""Levels of XML elements within one another; these formats have five."""

Number = Annotated[float, Field(ge=-1e7, le=1e7, allow_inf_nan=False)]
Length = Annotated[float, Field(gt=0.0, le=1e7, allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0.0, le=1e9, allow_inf_nan=False)]
Frame = Annotated[int, Field(ge=0, le=10**9)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Identifier = Annotated[int | str, Field(union_mode="left_to_right")]
Flag = bool


class Foreign(BaseModel):
    """The part of another tool's object that is read; what else it has is left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


F = TypeVar("F", bound=Foreign)


def parse(kind: type[F], values: object, place: Place, report: Report) -> F | None:
    """Return the values as `kind`; None after refusing them."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        report.refuse(place, first_complaint(error))
        return None


# -- text and CSV ------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8. Raises InvalidFile."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidFile(Place(path, line), "is no text in UTF-8; save it as UTF-8") from None


def read_bytes(path: Path) -> bytes:
    """Return the contents of a file. Raises LvmError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LvmError(f"{path} cannot be read: {error.strerror}; name a file") from None
    if data.startswith(b"PK\x03\x04"):
        raise InvalidFile(Place(path), "is a zip archive; unpack it and name the annotations in it")
    return data


def read_lines(path: Path) -> Iterator[tuple[Place, str]]:
    """Yield each line that is not empty."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield Place(path, number), line.strip()


def read_csv(path: Path) -> Iterator[tuple[Place, list[str]]]:
    """Yield the fields of each row that is not empty. Raises InvalidFile."""
    rows = csv.reader(read_text(path).split("\n"), skipinitialspace=True, strict=True)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InvalidFile(Place(path, rows.line_num), f"is no CSV: {error}") from None
        if row is None:
            return
        fields = [value.strip() for value in row]
        if any(fields):
            yield Place(path, rows.line_num), fields


# -- JSON --------------------------------------------------------------------------------------------------


class JsonFile:
    """A JSON file: its `tree`, and the place of any part of it."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises InvalidFile."""
        self.path, self._text = path, read_text(path)
        try:
            self.tree: Any = json.loads(self._text, parse_int=_parse_int)
        except json.JSONDecodeError as error:
            raise InvalidFile(Place(path, error.lineno), f"is no JSON: {error.msg}") from None
        except RecursionError:
            raise InvalidFile(Place(path), "is no JSON that is read here: it is nested too deeply") from None

    def place(self, *keys: str | int) -> Place:
        """Return the place of the part to which keys and indices lead; its line is computed when needed."""
        return Place(self.path, partial(_find_line, self._text, keys))

    def error(self, message: str, *keys: str | int) -> InvalidFile:
        return InvalidFile(self.place(*keys), message)

    def items(self, value: object, *keys: str | int) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        """Yield path and value of each item of a list, or of each value of an object. Raises InvalidFile."""
        if isinstance(value, Mapping):
            pairs: Iterator[tuple[str | int, Any]] = iter(value.items())
        elif isinstance(value, list):
            pairs = iter(enumerate(value))
        else:
            raise self.error(f"expected a list or an object, got {value!r:.60}", *keys)
        for key, item in pairs:
            yield (*keys, key), item


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) < 1000 else float("inf")


_DECODER = json.JSONDecoder(parse_int=_parse_int)
_SPACE = re.compile(r"[ \t\n\r]*")


def _find_line(text: str, keys: tuple[str | int, ...]) -> int:
    """Return the line at which the value starts to which `keys` lead in the JSON `text`."""
    at = _skip_space(text, 0)
    for key in keys:
        at = _find_value(text, at, key)
    return text.count("\n", 0, at) + 1


def _find_value(text: str, at: int, key: str | int) -> int:
    """Return where the value of `key` starts in the object or list that starts at `at`."""
    is_object, index, place = text[at] == "{", 0, at
    at = _skip_space(text, at + 1)
    while text[at] not in "]}":
        name: str | int = index
        if is_object:
            name, at = _DECODER.raw_decode(text, at)
            at = _skip_space(text, _skip_space(text, at) + 1)  # past the colon
        if name == key:
            place = at
            if not is_object:
                break  # of several equal keys of an object the last one counts
        _, at = _DECODER.raw_decode(text, at)
        at = _skip_space(text, at)
        if text[at] == ",":
            at = _skip_space(text, at + 1)
        index += 1
    return place


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


# -- XML ---------------------------------------------------------------------------------------------------


@dataclass
class Element:
    """An XML element with the line of its start."""

    name: str
    attributes: dict[str, str]
    place: Place
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, *names: str) -> list[Element]:
        """Return the children with one of the names, in order."""
        return [child for child in self.children if child.name in names]

    def find(self, path: str) -> Element | None:
        """Return the first element to which names, separated by slashes, lead."""
        here: Element | None = self
        for name in path.split("/"):
            here = next(iter(here.all(name)), None) if here else None
        return here

    def get_text(self, path: str) -> str:
        """Return the text of the first element to which names lead; empty if there is none."""
        element = self.find(path)
        return element.text.strip() if element else ""


def read_xml(path: Path) -> Element:
    """Return the root of an XML file. Raises InvalidFile.

    A file that declares a document type is refused: none of these formats has one, and entities that it
    could declare would read other files or grow without limit.
    """
    parser = expat.ParserCreate()
    root = Element("", {}, Place(path))
    stack = [root]

    def place() -> Place:
        return Place(path, parser.CurrentLineNumber)

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > MAX_DEPTH:
            raise InvalidFile(place(), f"has elements nested deeper than {MAX_DEPTH}")
        element = Element(name, attributes, place())
        stack[-1].children.append(element)
        stack.append(element)

    def end(name: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        parts.setdefault(id(stack[-1]), (stack[-1], []))[1].append(data)

    def doctype(*_: object) -> None:
        raise InvalidFile(
            place(), "declares a document type, which could hide other files; remove the DOCTYPE"
        )

    parts: dict[int, tuple[Element, list[str]]] = {}
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, doctype
    try:
        parser.Parse(read_bytes(path), True)
    except expat.ExpatError as error:
        raise InvalidFile(Place(path, error.lineno), f"is no XML: {expat.ErrorString(error.code)}") from None
    except (ValueError, LookupError) as error:  # an encoding that is not known
        raise InvalidFile(place(), f"is no XML that can be read: {error}") from None
    for element, data in parts.values():
        element.text = "".join(data)
    return root.children[0]


# -- names of pictures -------------------------------------------------------------------------------------

_NUMBERED = re.compile(r"(.*?)[_-]?(\d{1,9})\Z", re.DOTALL)


def split_frame_name(name: str) -> tuple[str, int] | None:
    """Return video and number of `shelf/frame_000012.jpg`, `shelf_12.txt` or `000012.png`; None for others.

    The video is empty where the name has none.
    """
    path = Path(name.replace("\\", "/"))
    match = _NUMBERED.match(path.stem if path.suffix.lower() in PICTURES else path.name)
    if match is None:
        return None
    stem = match[1]
    if stem.lower() in ("", "frame", "img", "image"):
        parents = [part for part in path.parts[:-1] if part.lower() not in PLAIN_FOLDERS]
        stem = parents[-1] if parents else ""
    return stem, int(match[2])


PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".txt"}
PLAIN_FOLDERS = {
    "", "/", ".", "..", "images", "labels", "img1", "train", "val", "valid", "test", "data", "obj_train_data",
    "obj_valid_data", "obj_test_data", "default", "annotations", "frames", "predict", "track", "jpegimages",
}  # fmt: skip
"""Folders of pictures that are not named after a video."""


def find_stride(frames: Iterable[int]) -> int:
    """Return how many frames lie between annotated ones, as a rule."""
    ordered = sorted(set(frames))
    steps = sorted(b - a for a, b in zip(ordered, ordered[1:], strict=False))
    return steps[len(steps) // 2] if steps else 1
