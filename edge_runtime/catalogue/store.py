"""Store the catalogue of products: a folder with a subfolder of photos for each product.

People may also fill it by hand, with any pictures. Changes made here are atomic, and a running process sees
them at its next question. Hidden folders and those of systems (`lost+found`, `@eaDir`) are ignored; folders
whose names mean the same text, in whatever bytes, are one product. With a key, new photos are
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
from collections.abc import Iterator, Mapping, Sequence
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
_PICTURES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_OTHER_PICTURES = {
    ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf",
    ".orf", ".rw2", ".psd", ".svg", ".pdf",
}  # fmt: skip
"""Files that hold a picture and are not read."""
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
        return sorted(self._scan_folders())

    def _scan_folders(self) -> dict[str, list[Path]]:
        """Return the folders of each product by its name, the one that is named so exactly first."""
        found: dict[str, list[Path]] = {}
        try:
            with os.scandir(self.folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    name = read_folder_name(entry.name)
                    if is_product_folder(name) and os.path.isdir(entry.path):  # a link in a circle is none
                        found.setdefault(name, []).append(Path(entry.path))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LvmError(printable(f"catalogue {self.folder} cannot be read: {_reason(error)}")) from error
        return {name: sorted(paths, key=lambda path: path.name != name) for name, paths in found.items()}

    def _find_folders(self, name: str) -> tuple[str, list[Path]]:
        """Return a product's name as it is listed, and its folders. Raises QueryError."""
        self.check_known(name)
        known = read_folder_name(name)
        return known, self._scan_folders()[known]

    def list_photos(self, name: str) -> list[Photo]:
        """Return the photos of a product that questions use: the first 16 by filename. Raises QueryError."""
        return self._scan_photos(*self._find_folders(name))[:MAX_PHOTOS]

    def count_unread(self, name: str) -> dict[str, int]:
        """Return how many pictures of a product are of kinds that are not read, by kind (HEIC). Raises
        QueryError."""
        kinds = [
            path.suffix[1:].upper()
            for folder in self._find_folders(name)[1]
            for path in folder.iterdir()
            if path.suffix.lower() in _OTHER_PICTURES and not path.name.startswith(".")
        ]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    def explain_empty(self, name: str) -> str:
        """Return why a product has no photos, for a sentence about it. Raises QueryError."""
        unread = self.count_unread(name)
        return f"has no photos in {self._find_folders(name)[1][0]}" + describe_unread(unread)

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
            rows.append(
                {
                    "file": read_folder_name(photo.path.name),
                    "width": width,
                    "height": height,
                    "bytes": photo.size,
                }
            )
        return rows

    def seal(self) -> int:
        """Encrypt every photo that is not encrypted yet, also those added by hand. Returns how many.

        Raises LvmError if there is no key, or a photo cannot be read or written.
        """
        if self._key is None:
            raise LvmError("sealing needs a key: name its file with --key or in LVM_EDGE_KEY_FILE")
        count = 0
        with self._writing():
            products = self._scan_folders().items()
            for photo in (photo for product in products for photo in self._scan_photos(*product)):
                data = read_file(photo.path)
                if not is_sealed(data):
                    write_private(photo.path, self._seal(data))
                    count += 1
        return count

    def _seal(self, data: bytes) -> bytes:
        return data if self._key is None else self._key.seal(data, role=ROLE)

    def _scan_photos(self, name: str, folders: Sequence[Path]) -> list[Photo]:
        photos = []
        try:
            for folder in folders:
                with os.scandir(folder) as entries:
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
        """Return `{"products": [{"name", "photos"}]}`, where `photos` is the number that a question uses.

        A product without any has `unread` too where it has pictures of other kinds, one that cannot be read
        `error`, and the others are listed all the same.
        """
        products: list[dict[str, Any]] = []
        for name, folders in sorted(self._scan_folders().items()):
            try:
                count = len(self._scan_photos(name, folders))
                unread = {} if count else self.count_unread(name)
            except QueryError as error:
                products.append({"name": name, "photos": 0, "error": str(error)})
                continue
            facts = {"name": name, "photos": min(count, MAX_PHOTOS)}
            products.append(facts | ({"unread": unread} if unread else {}))
        return {"products": products}

    def check_known(self, name: str) -> None:
        """Raises QueryError, with the nearest name, if there is no such product."""
        names = self.list_products()
        if read_folder_name(name) in names:
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
            name, folders = self._find_folders(name)
            count = len(self._scan_photos(name, folders))
            for folder in folders:
                os.replace(folder, self.folder / _REMOVED)  # one step, for questions at the same time
                fsync_folder(self.folder)
                shutil.rmtree(self.folder / _REMOVED)
        return count

    def rename(self, before: str, after: str) -> str:
        """Rename a product. Returns its new name. Raises QueryError if that is in use, LvmError."""
        after = check_product_name(after)
        with self._writing():
            before, folders = self._find_folders(before)
            self._check_free(after, [name for name in self.list_products() if name != before])
            if len(folders) > 1:
                raise QueryError(
                    printable(
                        f"product {before!r} lies in {len(folders)} folders; move its photos into one first"
                    )
                )
            os.rename(folders[0], self.folder / after)
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
        _, folders = self._find_folders(name)
        folder, present = folders[0], self._scan_photos(name, folders)
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
        same = [known for known in names if fold_name(known) == fold_name(name)]
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


def describe_unread(unread: Mapping[str, int]) -> str:
    """Return the end of a sentence that says which pictures are not read, and what to do."""
    if not unread:
        return ""
    counts = ", ".join(f"{count} {kind}" for kind, count in unread.items())
    return f"; what is there ({counts}) is not read here: convert it to JPEG"


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
JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: invisible, and part of how Persian, Hindi and other words are written."""
SYSTEM_FOLDERS = frozenset(
    "__macosx lost+found @eadir @__thumb @appdata @quarantine @recycle "
    "@recently-snapshot @tmp @sharebin #recycle #snapshot $recycle.bin "
    "recycler found.000 found.001 __pycache__".split()
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
