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

A YAML file for `lvm-edge run --config FILE`. Every key may be left out; unknown ones are refused.

```sh
lvm-edge init                          # writes a first one, with the cameras that there are
lvm-edge check-config FILE             # is it sound? exit status 2, with the line, where it is not
lvm-edge check-config FILE --show      # every setting as it will be, secrets blanked
lvm-edge check-config --schema         # JSON schema, with which editors check and complete
```

For an editor with a YAML language server: `lvm-edge check-config --schema > lvm-edge.schema.json`, and
`# yaml-language-server: $schema=lvm-edge.schema.json` as the first line of the file.

`${NAME}` in a value is the environment variable NAME, `${NAME:-other}` falls back on `other`, `$${` is a
plain `${`. What the environment gave is blanked wherever anything is printed. Plain YAML only: no anchors,
aliases or tags, no key twice, at most 256 KiB. `kill -HUP PID` reads the cameras again.

The tables below are made from the program by `python -m tools.docs.config_reference`.
"""


def page() -> str:
    """The whole page as Markdown."""
    schema = make_config_schema()
    return "\n".join([HEAD, *_section("", schema, schema["$defs"], {})]).rstrip() + "\n"


def _section(
    place: str, model: dict[str, Any], models: dict[str, Any], told: dict[str, str]
) -> Iterator[str]:
    """`told` are the settings that have their table already, and where."""
    whole = json.dumps(model, sort_keys=True)  # not its title: two sections may have classes of one name
    if (before := told.get(whole)) is not None:
        yield f"## `{place}`\n\nAs [`{before}`](#{_anchor(before)}).\n"
        return
    told[whole] = place
    rows, inner = [], []
    for name, field in model["properties"].items():
        path = f"{place}.{name}" if place else name
        found = _inner(field, models)
        if found is not None:
            suffix, settings = found
            inner.append((path + suffix, settings))
            continue
        default = "needed" if name in model.get("required", ()) else _shown(field.get("default"))
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
        yield from _section(path, settings, models, told)


def _anchor(place: str) -> str:
    return "".join(c for c in place.lower() if c.isalnum() or c in "-_")


def _inner(field: dict[str, Any], models: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The settings that a key holds, and how their place is written: one, a list of them, or by names."""
    for one in (field, *field.get("anyOf", ())):
        for suffix, holder in (
            ("", one),
            ("[]", one.get("items", {})),
            (".NAME", one.get("additionalProperties")),
        ):
            if isinstance(holder, dict) and "$ref" in holder:
                settings = models[holder["$ref"].rpartition("/")[2]]
                if "properties" in settings:
                    return suffix, settings
    return None


def _kind(field: dict[str, Any], models: dict[str, Any]) -> str:
    options = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    return _cell(" or ".join(dict.fromkeys(_of(one, models) for one in options)))


def _of(one: dict[str, Any], models: dict[str, Any]) -> str:
    if "$ref" in one:
        one = models[one["$ref"].rpartition("/")[2]]
    if "enum" in one:
        return ", ".join(map(str, one["enum"]))
    if "const" in one:
        return str(one["const"])
    kinds = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false",
             "array": "list", "object": "by name"}  # fmt: skip
    kind = "path" if one.get("format") == "path" else kinds.get(one.get("type", ""), "anything")
    low = one.get("minimum", one.get("exclusiveMinimum"))
    above = "above " if "exclusiveMinimum" in one else "from "
    bounds = "" if low is None else f" {above}{_number(low)}"
    return kind + bounds + (f" to {_number(one['maximum'])}" if "maximum" in one else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _shown(default: Any) -> str:
    return "" if default is None or default in ([], {}) else f"`{json.dumps(default, ensure_ascii=False)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    wanted = page()
    if parser.parse_args().check:
        current = PAGE.exists() and PAGE.read_text() == wanted
        print(json.dumps({"current": current}))
        return 0 if current else 1
    PAGE.write_text(wanted)
    print(json.dumps({"written": str(PAGE), "bytes": len(wanted.encode())}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
