"""A YAML file as settings: the one reader of every configuration that a person writes.

Plain YAML only: no aliases, no tags, no key twice, bounded in bytes, values and depth, so that no file costs
more than a moment. `${NAME}` in a value is the environment variable NAME, `${NAME:-other}` falls back on
`other` where it is unset or empty, `$${` is a plain `${`. What the environment gave is kept secret
(`edge_runtime.system.secrets`) and is never read as YAML. Every error names file and line.
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

from edge_runtime.system.secrets import keep_secret, masked
from edge_runtime.system.text import printable
from engines.errors import LvmError

MAX_CONFIG_BYTES = 1 << 18
"""Of the file, and of all values together once the environment is put in."""
MAX_VALUES = 10_000
"""Keys and values of one file."""
MAX_DEPTH = 20
"""Mappings and lists within one another."""
MOST_SENTENCES = 20
"""What is said of one file."""

_VARIABLE = re.compile(r"\$(\$)?\{([^{}]*)(\}?)")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?\Z", re.DOTALL)
_NO_TEXT = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null")}

M = TypeVar("M", bound=BaseModel)
Location = tuple[int | str, ...]


class WrongSettings(LvmError):
    """A file says what its settings do not take. `str` is the first of it by line."""

    def __init__(self, first: str, *more: str) -> None:
        super().__init__(first)
        self._sentences = (first, *more)[:MOST_SENTENCES]

    @property
    def sentences(self) -> tuple[str, ...]:
        return self._sentences


class _Refused(Exception):
    """One sentence, and the line from 1 that it is about."""

    def __init__(self, line: int, said: str) -> None:
        super().__init__(said)
        self.line = line


def read_settings(path: Path, model: type[M], environment: Mapping[str, str] | None = None) -> M:
    """A YAML file as `model`; an empty file is one that names nothing.

    `environment` (default: the process's) is what `${NAME}` refers to. Raises LvmError with file, line and
    the first thing that is wrong, without any value of the environment; WrongSettings where more may be.
    """
    text = _text(path)
    try:
        node = _Loader(text).get_single_node()
        data = _Values(os.environ if environment is None else environment).of(node) if node else {}
    except _Refused as error:
        raise LvmError(f"{path}:{error.line}: {masked(str(error))}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # Beside its own errors yaml passes on what an escape beyond Unicode raises.
        raise LvmError(f"{path}:{_line_of(error, text)}: not YAML: {_yaml_reason(error)}") from None
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        found: dict[int, str] = {}  # a line is wrong once, though a choice of types objects once for each
        for problem in _causes(error.errors(include_url=False)):
            line, written = _place(node, problem["loc"])
            said = printable(masked(_problem(problem, model, written)))[:500]
            found.setdefault(line, f"{path}:{line}: {said}")
        raise WrongSettings(*(said for _, said in sorted(found.items()))) from None


def _causes(problems: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without lists that are called too short only because their entries are wrong: those are named."""
    return [
        problem
        for problem in problems
        if problem["type"] != "too_short" or not any(_is_within(other, problem) for other in problems)
    ]


def _is_within(inner: ErrorDetails, outer: ErrorDetails) -> bool:
    place = outer["loc"]
    return len(inner["loc"]) > len(place) and inner["loc"][: len(place)] == place


def _text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe waits for somebody who writes into it
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
    """Composes nodes within the bounds; constructs nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused(
                line, "aliases (&name, *name) are not allowed in a configuration; write the value out"
            )
        if getattr(event, "tag", None) is not None:
            raise _Refused(line, f"not YAML: tags are not allowed in a configuration, got {event.tag[:80]!r}")
        self._nodes += 1
        if self._nodes > MAX_VALUES:
            raise _Refused(line, f"a configuration has at most {MAX_VALUES} keys and values")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Refused(line, f"a configuration nests at most {MAX_DEPTH} deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Values:
    """Python values of composed nodes, with the environment put in."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._plain = yaml.constructor.SafeConstructor()
        self._left = MAX_CONFIG_BYTES

    def of(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.of(one) for one in node.value]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(line, "not YAML: a key must be a word, got a list or a mapping")
            if key.value in found:
                shown = printable(key.value[:50])
                raise _Refused(line, f"{shown!r} is written twice, first in line {lines[key.value]}")
            lines[key.value] = line
            found[key.value] = self.of(value)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        line = node.start_mark.line + 1
        if node.tag not in _NO_TEXT:  # a date, too, is no more than a word here
            return self._with_environment(node.value, line)
        try:
            value = self._plain.construct_object(node)
        except (ValueError, OverflowError):  # 5,000 digits
            shown = printable(node.value[:50])
            raise _Refused(line, f"not YAML: {shown!r} is no {node.tag.rpartition(':')[2]}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _Refused(line, f"a number must be finite, got {printable(node.value[:50])}")
        return value

    def _with_environment(self, text: str, line: int) -> str:
        if "${" not in text:
            return text
        return _VARIABLE.sub(lambda match: self._variable(match, line), text)

    def _variable(self, match: re.Match[str], line: int) -> str:
        escaped, inner, closed = match.groups()
        if escaped:
            return match.group()[1:]
        named = _NAME.match(inner)
        if not closed or named is None:
            raise _Refused(
                line,
                f"expected ${{NAME}} or ${{NAME:-default}}, got {printable(match.group()[:50])!r}; "
                "a plain ${ is written $${",
            )
        name, default = named.groups()
        value = self._environment.get(name, "")
        if value:
            keep_secret(value)
        elif default is None:
            raise _Refused(
                line,
                f"the environment variable {name[:100]} is not set; "
                f"set it or write ${{{name[:100]}:-default}}",
            )
        else:
            value = default
        self._left -= len(value)
        if self._left < 0:
            raise _Refused(
                line, f"the environment makes the configuration longer than {MAX_CONFIG_BYTES} bytes"
            )
        return value


def _line_of(error: Exception, text: str) -> int:
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return 1 if mark is None else int(mark.line) + 1


def _yaml_reason(error: Exception) -> str:
    """What is wrong, without the marks: they repeat the text, and with it what may be secret."""
    if isinstance(error, yaml.MarkedYAMLError):
        said = ", ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        character = error.character if isinstance(error.character, int) else ord(error.character[:1] or "\0")
        said = f"the character U+{character:04X} is not allowed"
    else:
        said = str(error)
    return printable(" ".join(said.split()))[:300]


# -- what is wrong, in words -------------------------------------------------------------------------------


def _problem(problem: ErrorDetails, model: type[BaseModel], written: yaml.Node | None) -> str:
    """`written` is the value as the file has it: there `${NAME}` is still a name."""
    location = problem["loc"]
    place = ".".join(str(part)[:60] for part in location if part != "[key]")[:160] or "top level"
    said = f"{place}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] == "extra_forbidden":
        return said + _nearest(str(location[-1]), _names_at(model, location[:-1]))
    if isinstance(written, yaml.ScalarNode) and "got" not in said and problem["type"] != "missing":
        said += f", got {written.value[:50]!r}"
    return said


def _nearest(wanted: str, known: list[str]) -> str:
    if not known:
        return ""
    near = difflib.get_close_matches(wanted[:50].casefold(), known, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"


def _names_at(model: type[BaseModel], location: Location) -> list[str]:
    """Keys that are understood at `location`: those of the models that its annotation names."""
    models = [model]
    for part in location:
        fields = [
            one.model_fields[part] for one in models if isinstance(part, str) and part in one.model_fields
        ]
        if fields:  # else a key of a dictionary, a place in a list, or the tag of a union
            models = [found for field in fields for found in _models_in(field.annotation)]
    return [field.alias or name for one in models for name, field in one.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    arguments: Iterable[Any] = get_args(annotation)
    for one in arguments:
        yield from _models_in(one)


def _place(node: yaml.Node | None, location: Location) -> tuple[int, yaml.Node | None]:
    """Line, from 1, of the deepest part of `location` that is written in the file, and what stands there."""
    line = 1
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                return line, None
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        else:
            break
    return line, node
