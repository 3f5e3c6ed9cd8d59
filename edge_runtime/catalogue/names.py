"""What a product may be called: its name is a folder's, on whatever disk the catalogue is carried to."""

from __future__ import annotations

import re
import unicodedata

from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable

MAX_LETTERS = 80
MAX_BYTES = 200
"""As UTF-8; a folder's name has at most 255."""
_FOREIGN = re.compile(r'[/\\<>:"|?*]')


def product_name(text: str) -> str:
    """`text` as the name of a new product: composed letters, no blanks around it. Raises QueryError.

    Refused is what some disk or shell takes for something else: a leading dot or dash, separators, control
    characters, and the letters that FAT refuses.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise QueryError("a product must have a name")
    shown = printable(name[:50])
    if len(name) > MAX_LETTERS or len(name.encode(errors="replace")) > MAX_BYTES:
        raise QueryError(f"a product's name has at most {MAX_LETTERS} letters, got {len(name)}: {shown!r}…")
    if not name.isprintable() or _FOREIGN.search(name) or name[0] in ".-" or name[-1] == ".":
        raise QueryError(
            "a product's name is a folder's: letters, digits, spaces and most signs, but none of "
            f'/ \\ < > : " | ? *, no dot at either end and no dash in front, got {shown!r}'
        )
    return name
