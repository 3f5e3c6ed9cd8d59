"""Read a YAML file into a pydantic model of settings. Every configuration file is read here.

Plain YAML only: no aliases, no tags, no duplicate keys, and limits on bytes, values and depth, so that no
file takes long to read. `${NAME}` in a value is the environment variable NAME, `${NAME:-other}` falls back to
`other` if it is unset or empty, `$${` is a plain `${`. Values from the environment are secrets
(`edge_runtime.system.secrets`) and are never parsed as YAML. Every error names file and line.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from edge_runtime.system.secrets import hide_secrets, register_secret, show_setting
from edge_runtime.system.text import printable
from engines.errors import LvmError

MAX_CONFIG_BYTES = 1 << 18
"""Limit of the file, and of all values together after environment variables are substituted."""
MAX_VALUES = 10_000
"""Keys and values in a file."""
MAX_DEPTH = 20
"""Levels of mappings and lists within one another."""
MAX_SENTENCES = 20
"""Errors reported for a file."""

_VARIABLE = re.compile(r"\$(\$)?\{([^{}]*)(\}?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_NOT_TEXT = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null")}

M = TypeVar("M", bound=BaseModel)
Location = tuple[int | str, ...]


class InvalidSettings(LvmError):
    """Settings that do not fit their model. `str` is the first error by line, `sentences` has all."""

    def __init__(self, first: str, *more: str) -> None:
        super().__init__(first)
        self._sentences = (first, *more)[:MAX_SENTENCES]

    @property
    def sentences(self) -> tuple[str, ...]:
        return self._sentences


class _LineError(Exception):
    """A message, and the number of the line that it is about, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_settings(path: Path, model: type[M], environment: Mapping[str, str] | None = None) -> M:
    """Read a YAML file into `model`. An empty file gives the defaults.

    `environment` (default: the process's) has the variables for `${NAME}`. Raises LvmError with file and
    line, and InvalidSettings with all errors if the YAML is sound but does not fit `model`. No message holds
    a value of the environment.
    """
    text = _read_text(path)
    try:
        node = _Loader(text).get_single_node()
        data = _ValueBuilder(os.environ if environment is None else environment).build(node) if node else {}
    except _LineError as error:
        raise LvmError(f"{path}:{error.line}: {hide_secrets(str(error))}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # Not only YAMLError: an escape beyond Unicode raises ValueError or OverflowError.
        raise LvmError(f"{path}:{_line_of(error, text)}: not YAML: {_yaml_reason(error)}") from None
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        by_line: dict[int, str] = {}  # one error a line: a union of types reports one for each of its types
        for problem in _drop_consequences(error.errors(include_url=False)):
            line, value = _locate(node, problem["loc"])
            message = printable(hide_secrets(_describe(problem, model, value)))[:500]
            by_line.setdefault(line, f"{path}:{line}: {message}")
        raise InvalidSettings(*(message for _, message in sorted(by_line.items()))) from None


def _drop_consequences(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Drop the "too short" of a list whose entries have errors of their own: those are the cause."""
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short" or not any(_is_within(other, problem) for other in problems)
    ]


def _is_within(inner: ErrorDetails, outer: ErrorDetails) -> bool:
    location = outer["loc"]
    return len(inner["loc"]) > len(location) and inner["loc"][: len(location)] == location


def _read_text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe waits for a writer
            raise LvmError(f"{path}: the configuration cannot be read: it is no plain file")
        if status.st_size > MAX_CONFIG_BYTES:
            raise LvmError(
                f"{path}: a configuration has at most {MAX_CONFIG_BYTES} bytes, got {status.st_size}"
            )
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LvmError(f"{path}:{line}: the configuration cannot be read: it is not UTF-8 text") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise LvmError(printable(f"{path}: the configuration cannot be read: {reason}")) from error


class _Loader(yaml.SafeLoader):
    """Composes YAML nodes within the limits; constructs no values."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _LineError(
                line, "aliases (&name, *name) are not allowed in a configuration; write the value out"
            )
        if getattr(event, "tag", None) is not None:
            raise _LineError(
                line, "not YAML: tags are not allowed in a configuration; put a text with ! in quotes"
            )
        self._nodes += 1
        if self._nodes > MAX_VALUES:
            raise _LineError(line, f"a configuration has at most {MAX_VALUES} keys and values")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _LineError(line, f"a configuration nests at most {MAX_DEPTH} deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _ValueBuilder:
    """Builds Python values from composed nodes, and substitutes environment variables."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._plain = yaml.constructor.SafeConstructor()
        self._chars_left = MAX_CONFIG_BYTES

    def build(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item) for item in node.value]
        assert isinstance(node, yaml.ScalarNode)
        return self._build_scalar(node)

    def _build_mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _LineError(line, "not YAML: a key must be a word, got a list or a mapping")
            if key.value in values:
                name = printable(key.value[:50])
                raise _LineError(line, f"{name!r} is written twice, first in line {lines[key.value]}")
            lines[key.value] = line
            values[key.value] = self.build(value)
        return values

    def _build_scalar(self, node: yaml.ScalarNode) -> Any:
        line = node.start_mark.line + 1
        if node.tag not in _NOT_TEXT:  # a date is text, too
            if "${" not in node.value:
                return node.value
            return _VARIABLE.sub(lambda match: self._look_up(match, line), node.value)
        try:
            value = self._plain.construct_object(node)
        except (ValueError, OverflowError):  # 5,000 digits
            text = printable(node.value[:50])
            raise _LineError(line, f"not YAML: {text!r} is no {node.tag.rpartition(':')[2]}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _LineError(line, f"a number must be finite, got {printable(node.value[:50])}")
        return value

    def _look_up(self, match: re.Match[str], line: int) -> str:
        escaped, inner, closed = match.groups()
        if escaped:
            return match.group()[1:]
        name_match = _NAME.match(inner)
        if not closed or name_match is None:
            raise _LineError(
                line,
                "expected ${NAME} or ${NAME:-default} after this $; a plain ${ is written $${",
            )
        name, default = name_match.groups()
        value = self._environment.get(name, "")
        if value:
            register_secret(value)
        elif default is None:
            raise _LineError(
                line,
                f"the environment variable {name[:100]} is not set; "
                f"set it or write ${{{name[:100]}:-default}}",
            )
        else:
            value = default
        self._chars_left -= len(value)
        if self._chars_left < 0:
            raise _LineError(
                line, f"the environment makes the configuration longer than {MAX_CONFIG_BYTES} bytes"
            )
        return value


def _line_of(error: Exception, text: str) -> int:
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return 1 if mark is None else int(mark.line) + 1


def _yaml_reason(error: Exception) -> str:
    """Return the reason without its marks, which repeat the text and with it possible secrets."""
    if isinstance(error, yaml.MarkedYAMLError):
        reason = ", ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        character = error.character if isinstance(error.character, int) else ord(error.character[:1] or "\0")
        reason = f"the character U+{character:04X} is not allowed"
    else:
        reason = str(error)
    return printable(" ".join(reason.split()))[:300]


# -- error messages ----------------------------------------------------------------------------------------


def _describe(problem: ErrorDetails, model: type[BaseModel], value: yaml.Node | None) -> str:
    """Return the message for a problem. `value` is the node in the file, where `${NAME}` is still a name."""
    location = problem["loc"]
    place = ".".join(str(part)[:60] for part in location if part != "[key]")[:160] or "top level"
    message = f"{place}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] == "extra_forbidden":
        return message + _suggest(str(location[-1]), _keys_at(model, location[:-1]))
    if isinstance(value, yaml.ScalarNode) and "got" not in message and _may_be_repeated(problem):
        message += f", got {show_setting(value.value[:50])!r}"
    return message


def _may_be_repeated(problem: ErrorDetails) -> bool:
    """Return whether an error may show the value: none of a secret, nor what stands where a section should,
    as an address does where a camera's settings should be."""
    if problem["type"] == "missing" or re.search(r"model|dict|mapping|list|tuple|set", problem["type"]):
        return False
    return not {"source", "password", "token", "token_hash", "host"} & set(map(str, problem["loc"]))


def _suggest(unknown: str, known: list[str]) -> str:
    if not known:
        return ""
    near = difflib.get_close_matches(unknown[:50].casefold(), known, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    """Return the keys that `model` takes at `location`: those of the models in its annotation."""
    models = [model]
    for part in location:
        fields = [
            inner.model_fields[part]
            for inner in models
            if isinstance(part, str) and part in inner.model_fields
        ]
        if fields:  # else a key of a dictionary, an index of a list, or the tag of a union
            models = [inner for field in fields for inner in _models_in(field.annotation)]
    return [field.alias or name for inner in models for name, field in inner.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    arguments: Iterable[Any] = get_args(annotation)
    for argument in arguments:
        yield from _models_in(argument)


def _locate(node: yaml.Node | None, location: Location) -> tuple[int, yaml.Node | None]:
    """Return line (from 1) and node of the deepest part of `location` that is in the file."""
    line = 1
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                return line, None
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        else:
            break
    return line, node
