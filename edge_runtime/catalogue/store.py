"""The catalogue on disk: a folder of one sub-folder of photos a product.

Whoever likes may fill it by hand, with any pictures; what is added here is written whole or not at all, and a
running process sees it at its next question. Folders that begin with a dot are nobody's products. With a key
what is written here is sealed; photos that are not sealed are read all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.catalogue.names import product_name
from edge_runtime.catalogue.photos import MAX_PHOTOS, encode_photo
from edge_runtime.imaging.decode import contents, read_image
from edge_runtime.imaging.jpeg import Image
from edge_runtime.persistence.encryption import Key, SealError, is_sealed, open_sealed
from edge_runtime.persistence.private_files import FOLDER_MODE, write_private
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import nearest, printable
from engines.durable import fsync_folder
from engines.errors import LvmError

MAX_PRODUCTS = 2000
ROLE = "catalogue photo"
"""Of a sealed file; see `privacy.sealing`."""
_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_NAMED = 8
_NEW, _GONE = ".new", ".gone"


@dataclass(frozen=True)
class Photo:
    """A photo's file, and what changes with its content: `changed` ns since 1970, `size` bytes."""

    path: Path
    changed: int
    size: int


@dataclass(frozen=True)
class Added:
    """`name` as it is written in the catalogue; `new` photos of now `photos`."""

    name: str
    new: int
    photos: int


class Catalogue:
    """Products by name. Safe for several threads and processes; nothing is kept in memory."""

    def __init__(self, folder: Path, key: Key | None = None) -> None:
        self.folder = folder
        self._key = key

    def products(self) -> list[str]:
        """Names, sorted; none where there is no folder. Raises LvmError where it cannot be read."""
        try:
            with os.scandir(self.folder) as entries:
                return sorted(one.name for one in entries if one.is_dir() and not one.name.startswith("."))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise LvmError(f"catalogue {self.folder} cannot be read: {_why(error)}") from error

    def photos(self, name: str) -> list[Photo]:
        """The photos that stand for a product, by name of file: the first 16. Raises QueryError."""
        return self._files(name)[:MAX_PHOTOS]

    def image(self, photo: Photo) -> Image:
        """(H, W, 3) RGB. Raises LvmError where it cannot be read, SealError where the key is another."""
        data = contents(photo.path)
        if not is_sealed(data):
            return read_image(photo.path)  # named in what is wrong with it
        try:
            return read_image(open_sealed(data, self._key, role=ROLE))
        except SealError as error:
            raise SealError(printable(f"photo {photo.path}: {error}")) from None

    def sizes(self, name: str) -> list[dict[str, Any]]:
        """File, width, height and bytes of each photo of a product. Raises QueryError, LvmError."""
        rows = []
        for photo in self.photos(name):
            height, width = self.image(photo).shape[:2]
            rows.append({"file": photo.path.name, "width": width, "height": height, "bytes": photo.size})
        return rows

    def seal(self) -> int:
        """Seal every photo that is not sealed yet, also those that were put here by hand. Returns how many.

        Raises LvmError where there is no key, and where a photo cannot be read or written.
        """
        if self._key is None:
            raise LvmError("sealing needs a key: name its file with --key or in LVM_EDGE_KEY_FILE")
        count = 0
        with self._writing():
            for photo in (one for name in self.products() for one in self._listed(name)):
                data = contents(photo.path)
                if not is_sealed(data):
                    write_private(photo.path, self._sealed(data))
                    count += 1
        return count

    def _sealed(self, data: bytes) -> bytes:
        return data if self._key is None else self._key.seal(data, role=ROLE)

    def _files(self, name: str) -> list[Photo]:
        self.known(name)
        return self._listed(name)

    def _listed(self, name: str) -> list[Photo]:
        found = []
        try:
            with os.scandir(self.folder / name) as entries:
                for one in entries:
                    suffix = Path(one.name).suffix.lower()
                    if suffix in _PICTURES and not one.name.startswith(".") and one.is_file():
                        told = one.stat()
                        found.append(Photo(Path(one.path), told.st_mtime_ns, told.st_size))
        except OSError as error:
            raise QueryError(
                printable(f"product {name!r} in catalogue {self.folder} cannot be read: {_why(error)}")
            ) from error
        return sorted(found, key=lambda photo: photo.path.name)

    def as_json(self) -> dict[str, Any]:
        """`{"products": [{"name", "photos"}]}`, photos being how many a question takes."""
        return {
            "products": [
                {"name": name, "photos": min(len(self._listed(name)), MAX_PHOTOS)} for name in self.products()
            ]
        }

    def known(self, name: str) -> None:
        """Raise QueryError, with the nearest name, for a product that is not here."""
        names = self.products()
        if name in names:
            return
        shown = name[:100]
        if not names:
            raise QueryError(
                printable(
                    f"product {shown!r} is not in the catalogue; {self.folder} has no products, "
                    "add one with lvm-edge catalogue add NAME PHOTO"
                )
            )
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise QueryError(
            printable(
                f"product {shown!r} is not in the catalogue; nearest is {nearest(name, names)!r}, "
                f"known are {', '.join(names[:_NAMED])}{more}"
            )
        )

    def add(self, name: str, images: Sequence[Image], *, replace: bool = False) -> Added:
        """Add photos (H, W, 3) RGB to a product, a new one where there is none of that name; `replace` puts
        them in the place of those that are there. What is there already is not added twice.

        Raises QueryError for a name, a number or a photo that cannot be, LvmError where it cannot be written.
        """
        name = product_name(name)
        data = {hashlib.sha256(one).hexdigest()[:16]: one for one in map(encode_photo, images)}
        if not data:
            raise QueryError(f"name at least one photo of {printable(name)!r}")
        with self._writing():
            names = self.products()
            if name not in names:
                return self._begun(name, names, data)
            return self._extended(name, data, replace)

    def remove(self, name: str) -> int:
        """Remove a product. Returns how many photos it had. Raises QueryError, LvmError."""
        with self._writing():
            count = len(self._files(name))
            os.replace(self.folder / name, self.folder / _GONE)  # at once for whoever asks meanwhile
            fsync_folder(self.folder)
            shutil.rmtree(self.folder / _GONE)
        return count

    def rename(self, before: str, after: str) -> str:
        """Give a product another name, which is returned. Raises QueryError where that is taken, LvmError."""
        after = product_name(after)
        with self._writing():
            self.known(before)
            self._check_free(after, [one for one in self.products() if one != before])
            os.rename(self.folder / before, self.folder / after)
            fsync_folder(self.folder)
        return after

    # -- inside --------------------------------------------------------------------------------------------

    def _begun(self, name: str, names: Sequence[str], data: dict[str, bytes]) -> Added:
        """A new product appears with all of its photos."""
        self._check_free(name, names)
        if len(names) >= MAX_PRODUCTS:
            raise QueryError(f"the catalogue is full: at most {MAX_PRODUCTS} products; remove one first")
        _check_count(name, len(data))
        fresh = self.folder / _NEW
        fresh.mkdir(mode=FOLDER_MODE)
        self._write(fresh, 0, data)
        os.rename(fresh, self.folder / name)
        fsync_folder(self.folder)
        return Added(name, len(data), len(data))

    def _extended(self, name: str, data: dict[str, bytes], replace: bool) -> Added:
        folder, there = self.folder / name, self._files(name)
        fresh = {key: one for key, one in data.items() if not any(key in photo.path.stem for photo in there)}
        if not replace:
            _check_count(name, len(there) + len(fresh))
            self._write(folder, _last_number(there), fresh)
            return Added(name, len(fresh), len(there) + len(fresh))
        _check_count(name, len(data))
        self._write(folder, _last_number(there), fresh)
        for photo in there:
            if not any(key in photo.path.stem for key in data):
                photo.path.unlink(missing_ok=True)
        fsync_folder(folder)
        return Added(name, len(fresh), len(data))

    def _write(self, folder: Path, last: int, data: dict[str, bytes]) -> None:
        for number, (key, one) in enumerate(data.items(), last + 1):
            write_private(folder / f"{number:03}-{key}.jpg", self._sealed(one))

    def _check_free(self, name: str, names: Sequence[str]) -> None:
        alike = [one for one in names if one.casefold() == name.casefold()]
        if alike:  # some disks do not tell capitals apart
            raise QueryError(printable(f"there is a product {alike[0]!r} already; choose another name"))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One writer at a time; what the disk refuses becomes a sentence."""
        try:
            self.folder.mkdir(parents=True, mode=FOLDER_MODE, exist_ok=True)
            with (self.folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for left in (_NEW, _GONE):  # of a writer that was killed
                    shutil.rmtree(self.folder / left, ignore_errors=True)
                yield
        except OSError as error:
            raise LvmError(
                f"catalogue {self.folder} cannot be written: {_why(error)}; name another with --catalogue"
            ) from error


def _check_count(name: str, count: int) -> None:
    if count > MAX_PHOTOS:
        raise QueryError(
            printable(f"a product has at most {MAX_PHOTOS} photos, {name!r} would have {count}; name fewer")
        )


def _last_number(photos: Sequence[Photo]) -> int:
    """The highest that a file of ours begins with: new photos come after those that are there."""
    numbers = [photo.path.stem.partition("-")[0] for photo in photos]
    return max((int(one) for one in numbers if len(one) <= 6 and one.isdecimal()), default=0)


def _why(error: Exception) -> str:
    return printable(str(getattr(error, "strerror", None) or error))
