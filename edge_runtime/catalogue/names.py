"""Check product names. A name is also the name of a folder, on any disk that the catalogue is copied to."""

from __future__ import annotations

import re
import unicodedata

from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable

MAX_LETTERS = 80
MAX_BYTES = 200
"""Of the UTF-8 text. Most filesystems allow 255."""
_FORBIDDEN = re.compile(r'[/\\<>:"|?*]')


def check_product_name(text: str) -> str:
    """Return `text` as a product's name: in Unicode normal form C, without surrounding blanks.

    Raises QueryError for names that a filesystem or shell may misread: with a leading dot or dash, a trailing
    dot, separators, control characters, or characters that FAT forbids.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise QueryError("a product must have a name")
    excerpt = printable(name[:50])
    if len(name) > MAX_LETTERS or len(name.encode(errors="replace")) > MAX_BYTES:
        raise QueryError(f"a product's name has at most {MAX_LETTERS} letters, got {len(name)}: {excerpt!r}…")
    if not name.isprintable() or _FORBIDDEN.search(name) or name[0] in ".-" or name[-1] == ".":
        raise QueryError(
            "a product's name is a folder's: letters, digits, spaces and most signs, but none of "
            f'/ \\ < > : " | ? *, no dot at either end and no dash in front, got {excerpt!r}'
        )
    return name
