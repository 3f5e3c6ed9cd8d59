"""Check product names. A name is also the name of a folder, on any disk that the catalogue is copied to."""

from __future__ import annotations

import os
import re
import unicodedata

from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import printable

MAX_LETTERS = 80
MAX_BYTES = 200
"""Of the UTF-8 text. Most filesystems allow 255."""
JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: invisible, and part of how Persian, Hindi and other words are written."""
SYSTEM_FOLDERS = frozenset(
    "__macosx lost+found @eadir @recycle @recently-snapshot @tmp @sharebin #recycle #snapshot $recycle.bin "
    "recycler found.000".split()
) | {"system volume information", "network trash folder", "temporary items"}
"""What macOS, file systems, NAS boxes and Windows put among the folders of people."""
_JOINED = re.compile(r"(?<=[^\x00-\x7f\u200c\u200d])[\u200c\u200d](?=[^\x00-\x7f\u200c\u200d])")
"""A joiner between two letters of a script that has it."""
_FORBIDDEN = re.compile(r'[/\\<>:"|?*]')


def read_folder_name(name: str) -> str:
    """Return a file's or folder's name as text in Unicode normal form C, which Macs do not write.

    Bytes that are no UTF-8, as an old disk or archive has them, are taken for Western European ones.
    """
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:  # half characters, which no file system gave
        return name
    for encoding in ("utf-8", "cp1252", "latin-1"):
        try:
            return unicodedata.normalize("NFC", raw.decode(encoding))
        except UnicodeDecodeError:
            continue
    raise AssertionError("every byte is a character of Latin-1")


def is_product_folder(name: str) -> bool:
    """Return whether a folder of the catalogue is a product: not hidden, and not a system's own."""
    return not name.startswith(".") and name.lower() not in SYSTEM_FOLDERS


def fold_name(name: str) -> str:
    """Return a form that is equal for names that nobody can tell apart."""
    return "".join(character for character in name.casefold() if character not in JOINERS)


def check_product_name(text: str) -> str:
    """Return `text` as a product's name: in Unicode normal form C, without surrounding blanks.

    Raises QueryError for names that a filesystem or shell may misread: with a leading dot or dash, a trailing
    dot, separators, control characters, or characters that FAT forbids; and for those that a system uses.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise QueryError("a product must have a name")
    excerpt = printable(name[:50])
    if len(name) > MAX_LETTERS or len(name.encode(errors="replace")) > MAX_BYTES:
        raise QueryError(f"a product's name has at most {MAX_LETTERS} letters, got {len(name)}: {excerpt!r}…")
    visible = _JOINED.sub("", name)
    if name.lower() in SYSTEM_FOLDERS:
        raise QueryError(f"{excerpt!r} is a folder that systems make themselves; choose another name")
    if not visible.isprintable() or _FORBIDDEN.search(name) or name[0] in ".-" or name[-1] == ".":
        raise QueryError(
            "a product's name is a folder's: letters, digits, spaces and most signs, but none of "
            f'/ \\ < > : " | ? *, no dot at either end and no dash in front, got {excerpt!r}'
        )
    return name
