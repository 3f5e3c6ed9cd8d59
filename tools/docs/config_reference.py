"""docs/configuration.md from the settings themselves, so that it says what the program reads.

python -m tools.docs.config_reference            writes it
python -m tools.docs.config_reference --check    exit status 1 where it is not current
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_runtime.interfaces.cli.check_config import make_config_schema

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

HEAD = """\
# Configuration

A YAML file for `lvm-edge run --config FILE`. Every key has a default unless it says "needed".
Unknown keys are refused.

```sh
lvm-edge init                          # write a first one, with the cameras of this machine
lvm-edge check-config FILE             # check it; exit status 2, with the line, if it is wrong
lvm-edge check-config FILE --show      # every setting in force, secrets blanked
lvm-edge check-config --schema         # JSON schema, for editors
```

For an editor with a YAML language server: `lvm-edge check-config --schema > lvm-edge.schema.json`, and
`# yaml-language-server: $schema=lvm-edge.schema.json` as the first line of the file.

`${NAME}` in a value is the environment variable NAME, `${NAME:-other}` falls back on `other`, `$${` is a
plain `${`. Values from the environment are blanked wherever anything is printed. Plain YAML only: no anchors,
aliases or tags, no key twice, at most 256 KiB. `kill -HUP PID` reads cameras and broker again.

The program's schema makes the tables below: `python -m tools.docs.config_reference`.
"""


def render_page() -> str:
    """Return the whole page as Markdown."""
    schema = make_config_schema()
    return "\n".join([HEAD, *_section("", schema, schema["$defs"], {})]).rstrip() + "\n"


def _section(
    place: str, model: dict[str, Any], models: dict[str, Any], places: dict[str, str]
) -> Iterator[str]:
    """Yield the section of `place` and those inside; `places` maps settings with a table to its place."""
    whole = json.dumps(model, sort_keys=True)  # not its title: two sections may have classes of one name
    if (before := places.get(whole)) is not None:
        yield f"## `{place}`\n\nAs [`{before}`](#{_anchor(before)}).\n"
        return
    places[whole] = place
    rows, inner = [], []
    for name, field in model["properties"].items():
        path = f"{place}.{name}" if place else name
        inner_section = _find_inner(field, models)
        if inner_section is not None:
            suffix, settings = inner_section
            inner.append((path + suffix, settings))
            continue
        default = "needed" if name in model.get("required", ()) else _format_default(field.get("default"))
        rows.append(
            f"| `{name}` | {_kind(field, models)} | {default} | {_cell(field.get('description', ''))} |"
        )
    yield f"## {'The top' if not place else f'`{place}`'}\n"
    about = inspect.cleandoc(model.get("description", ""))
    if about and place:
        yield about + "\n"
    if rows:
        yield "| key | what | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
    for path, settings in inner:
        yield from _section(path, settings, models, places)


def _anchor(place: str) -> str:
    return "".join(c for c in place.lower() if c.isalnum() or c in "-_")


def _find_inner(field: dict[str, Any], models: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the settings inside a key and the suffix of their place: none, [] (list) or .NAME (mapping)."""
    for schema in (field, *field.get("anyOf", ())):
        for suffix, holder in (
            ("", schema),
            ("[]", schema.get("items", {})),
            (".NAME", schema.get("additionalProperties")),
        ):
            if isinstance(holder, dict) and "$ref" in holder:
                settings = models[holder["$ref"].rpartition("/")[2]]
                if "properties" in settings:
                    return suffix, settings
    return None


def _kind(field: dict[str, Any], models: dict[str, Any]) -> str:
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    return _cell(" or ".join(dict.fromkeys(_kind_of_schema(option, models) for option in options)))


def _kind_of_schema(schema: dict[str, Any], models: dict[str, Any]) -> str:
    if "$ref" in schema:
        schema = models[schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kinds = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false",
             "array": "list", "object": "by name"}  # fmt: skip
    kind = "path" if schema.get("format") == "path" else kinds.get(schema.get("type", ""), "anything")
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    above = "above " if "exclusiveMinimum" in schema else "from "
    bounds = "" if low is None else f" {above}{_number(low)}"
    return kind + bounds + (f" to {_number(schema['maximum'])}" if "maximum" in schema else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _format_default(default: Any) -> str:
    return "" if default is None or default in ([], {}) else f"`{json.dumps(default, ensure_ascii=False)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    text = render_page()
    if parser.parse_args().check:
        current = PAGE.exists() and PAGE.read_text() == text
        print(json.dumps({"current": current}))
        return 0 if current else 1
    PAGE.write_text(text)
    print(json.dumps({"written": str(PAGE), "bytes": len(text.encode())}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
