"""`lvm-edge key`: make and identify keys for encryption on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edge_runtime.persistence.encryption import find_key, new_key_text
from edge_runtime.persistence.filesystem import FILE_MODE
from engines.errors import LvmError
from engines.fsync import fsync_folder

app = typer.Typer(no_args_is_help=True, help="Make and identify keys for encryption on disk.")

File = Annotated[Path, typer.Argument(help="file of the key")]


@app.command("new")
def new(file: File) -> None:
    """Make a new key in FILE, which must not exist yet. Without the key, the memory is lost."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(file, flags, FILE_MODE), "w", encoding="ascii") as opened:
            opened.write(new_key_text())
            opened.flush()
            os.fsync(opened.fileno())
        fsync_folder(file.absolute().parent)
    except FileExistsError:
        raise LvmError(f"{file} exists already, and a key in it would be lost; name another file") from None
    except (OSError, ValueError) as error:
        raise LvmError(f"{file} cannot be written: {getattr(error, 'strerror', error)}") from None
    print(f"{file}: a new key; keep a copy of it elsewhere, without it the memory cannot be read")


@app.command("id")
def print_id(file: File) -> None:
    """Print the id of the key in FILE, which encrypted files refer to."""
    key = find_key(file)
    assert key is not None
    print(key.id.hex())
