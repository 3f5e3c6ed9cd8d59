"""Store the catalogue of products: a folder with a subfolder of photos for each product.

People may also fill it by hand, with any pictures. Changes made here are atomic, and a running process sees
them at its next question. Folders whose name begins with a dot are ignored. With a key, new photos are
encrypted; photos that are not encrypted can be read all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.catalogue.photos import MAX_PHOTOS, encode_photo
from edge_runtime.imaging.decode import read_file, read_image
from edge_runtime.imaging.jpeg import Image
from edge_runtime.persistence.encryption import Key, SealError, is_sealed, open_sealed
from edge_runtime.persistence.filesystem import FOLDER_MODE, write_private
from edge_runtime.system.errors import QueryError
from edge_runtime.system.text import nearest, printable
from engines.errors import LvmError
from engines.fsync import fsync_folder

MAX_PRODUCTS = 2000
ROLE = "catalogue photo"
"""Role of a sealed photo, see `persistence.encryption`."""
_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_MAX_LISTED = 8
"""Known products that an error message lists."""
_NEW, _REMOVED = ".new", ".gone"


@dataclass(frozen=True)
class Photo:
    """A photo's file, with its time of change in ns since 1970 and its size in bytes."""

    path: Path
    changed: int
    size: int


@dataclass(frozen=True)
class AddResult:
    """`name` as stored in the catalogue; `photos` that the product has now, `new` ones among them."""

    name: str
    new: int
    photos: int


class Catalogue:
    """The products by name. Safe for several threads and processes; caches nothing."""

    def __init__(self, folder: Path, key: Key | None = None) -> None:
        self.folder = folder
        self._key = key

    def list_products(self) -> list[str]:
        """Return the names, sorted; none if there is no folder. Raises LvmError if it cannot be read."""
        try:
            with os.scandir(self.folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise LvmError(f"catalogue {self.folder} cannot be read: {_reason(error)}") from error

    def list_photos(self, name: str) -> list[Photo]:
        """Return the photos of a product that questions use: the first 16 by filename. Raises QueryError."""
        self.check_known(name)
        return self._scan_photos(name)[:MAX_PHOTOS]

    def load_image(self, photo: Photo) -> Image:
        """Return (H, W, 3) RGB. Raises LvmError if it cannot be read, SealError if the key is wrong."""
        data = read_file(photo.path)
        if not is_sealed(data):
            return read_image(photo.path)  # by its path, for error messages
        try:
            return read_image(open_sealed(data, self._key, role=ROLE))
        except SealError as error:
            raise SealError(printable(f"photo {photo.path}: {error}")) from None

    def describe_photos(self, name: str) -> list[dict[str, Any]]:
        """Return file, width, height and bytes of each photo of a product. Raises QueryError, LvmError."""
        rows = []
        for photo in self.list_photos(name):
            height, width = self.load_image(photo).shape[:2]
            rows.append({"file": photo.path.name, "width": width, "height": height, "bytes": photo.size})
        return rows

    def seal(self) -> int:
        """Encrypt every photo that is not encrypted yet, also those added by hand. Returns how many.

        Raises LvmError if there is no key, or a photo cannot be read or written.
        """
        if self._key is None:
            raise LvmError("sealing needs a key: name its file with --key or in LVM_EDGE_KEY_FILE")
        count = 0
        with self._writing():
            for photo in (photo for name in self.list_products() for photo in self._scan_photos(name)):
                data = read_file(photo.path)
                if not is_sealed(data):
                    write_private(photo.path, self._seal(data))
                    count += 1
        return count

    def _seal(self, data: bytes) -> bytes:
        return data if self._key is None else self._key.seal(data, role=ROLE)

    def _scan_photos(self, name: str) -> list[Photo]:
        photos = []
        try:
            with os.scandir(self.folder / name) as entries:
                for entry in entries:
                    suffix = Path(entry.name).suffix.lower()
                    if suffix in _PICTURES and not entry.name.startswith(".") and entry.is_file():
                        status = entry.stat()
                        photos.append(Photo(Path(entry.path), status.st_mtime_ns, status.st_size))
        except OSError as error:
            raise QueryError(
                printable(f"product {name!r} in catalogue {self.folder} cannot be read: {_reason(error)}")
            ) from error
        return sorted(photos, key=lambda photo: photo.path.name)

    def as_json(self) -> dict[str, Any]:
        """Return `{"products": [{"name", "photos"}]}`, where `photos` is the number that a question uses."""
        counts = {name: len(self._scan_photos(name)) for name in self.list_products()}
        return {"products": [{"name": name, "photos": min(n, MAX_PHOTOS)} for name, n in counts.items()]}

    def check_known(self, name: str) -> None:
        """Raises QueryError, with the nearest name, if there is no such product."""
        names = self.list_products()
        if name in names:
            return
        excerpt = name[:100]
        if not names:
            raise QueryError(
                printable(
                    f"product {excerpt!r} is not in the catalogue; {self.folder} has no products, "
                    "add one with lvm-edge catalogue add NAME PHOTO"
                )
            )
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        raise QueryError(
            printable(
                f"product {excerpt!r} is not in the catalogue; nearest is {nearest(name, names)!r}, "
                f"known are {', '.join(names[:_MAX_LISTED])}{more}"
            )
        )

    def add(self, name: str, images: Sequence[Image], *, replace: bool = False) -> AddResult:
        """Add photos (H, W, 3) RGB to a product, which is created if there is none of that name.

        `replace`: they replace its photos. A photo that the product has already is not added again. Raises
        QueryError for an invalid name, photo or number of photos, LvmError if writing fails.
        """
        name = check_product_name(name)
        data = {hashlib.sha256(jpeg).hexdigest()[:16]: jpeg for jpeg in map(encode_photo, images)}
        if not data:
            raise QueryError(f"name at least one photo of {printable(name)!r}")
        with self._writing():
            names = self.list_products()
            if name not in names:
                return self._create(name, names, data)
            return self._extend(name, data, replace)

    def remove(self, name: str) -> int:
        """Remove a product. Returns its number of photos. Raises QueryError, LvmError."""
        with self._writing():
            self.check_known(name)
            count = len(self._scan_photos(name))
            os.replace(self.folder / name, self.folder / _REMOVED)  # one step, for questions at the same time
            fsync_folder(self.folder)
            shutil.rmtree(self.folder / _REMOVED)
        return count

    def rename(self, before: str, after: str) -> str:
        """Rename a product. Returns its new name. Raises QueryError if that is in use, LvmError."""
        after = check_product_name(after)
        with self._writing():
            self.check_known(before)
            self._check_free(after, [name for name in self.list_products() if name != before])
            os.rename(self.folder / before, self.folder / after)
            fsync_folder(self.folder)
        return after

    # -- inside --------------------------------------------------------------------------------------------

    def _create(self, name: str, names: Sequence[str], data: dict[str, bytes]) -> AddResult:
        """Create a product with all of its photos in one step."""
        self._check_free(name, names)
        if len(names) >= MAX_PRODUCTS:
            raise QueryError(f"the catalogue is full: at most {MAX_PRODUCTS} products; remove one first")
        _check_count(name, len(data))
        fresh = self.folder / _NEW
        fresh.mkdir(mode=FOLDER_MODE)
        self._write(fresh, 0, data)
        os.rename(fresh, self.folder / name)
        fsync_folder(self.folder)
        return AddResult(name, len(data), len(data))

    def _extend(self, name: str, data: dict[str, bytes], replace: bool) -> AddResult:
        folder, present = self.folder / name, self._scan_photos(name)
        stems = [photo.path.stem for photo in present]
        fresh = {key: jpeg for key, jpeg in data.items() if not any(key in stem for stem in stems)}
        total = len(data) if replace else len(present) + len(fresh)
        _check_count(name, total)
        self._write(folder, _last_number(present), fresh)
        if not replace:
            return AddResult(name, len(fresh), total)
        for photo in present:
            if not any(key in photo.path.stem for key in data):
                photo.path.unlink(missing_ok=True)
        fsync_folder(folder)
        return AddResult(name, len(fresh), total)

    def _write(self, folder: Path, last: int, data: dict[str, bytes]) -> None:
        for number, (key, jpeg) in enumerate(data.items(), last + 1):
            write_private(folder / f"{number:03}-{key}.jpg", self._seal(jpeg))

    def _check_free(self, name: str, names: Sequence[str]) -> None:
        same = [known for known in names if known.casefold() == name.casefold()]
        if same:  # some filesystems ignore case
            raise QueryError(printable(f"there is a product {same[0]!r} already; choose another name"))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Lock the catalogue for one writer, and raise disk errors as LvmError."""
        try:
            self.folder.mkdir(parents=True, mode=FOLDER_MODE, exist_ok=True)
            with (self.folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for name in (_NEW, _REMOVED):  # left by a writer that was killed
                    shutil.rmtree(self.folder / name, ignore_errors=True)
                yield
        except OSError as error:
            raise LvmError(
                f"catalogue {self.folder} cannot be written: {_reason(error)}; name another with --catalogue"
            ) from error


def _check_count(name: str, count: int) -> None:
    if count > MAX_PHOTOS:
        raise QueryError(
            printable(f"a product has at most {MAX_PHOTOS} photos, {name!r} would have {count}; name fewer")
        )


def _last_number(photos: Sequence[Photo]) -> int:
    """Return the highest number at the start of a filename: new photos are numbered from there."""
    numbers = [photo.path.stem.partition("-")[0] for photo in photos]
    return max((int(number) for number in numbers if len(number) <= 6 and number.isdecimal()), default=0)


def _reason(error: Exception) -> str:
    return printable(str(getattr(error, "strerror", None) or error))


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
