"""A bundle: everything that a device needs to run one trained model.

    manifest.json
    graphs/<target>/<name>.onnx     backbone, sampler, reader
    weights.safetensors             one copy; the graphs' initialisers point into it

A directory, or one uncompressed zip archive of it. Whenever a file is read its SHA-256 is compared with the
manifest, and only those bytes are handed to a backend: a file that is replaced afterwards changes nothing.
Only files that the manifest names are ever opened; links and paths that leave the bundle are refused.
"""

from __future__ import annotations

import hashlib
import mmap
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Protocol

from pydantic import ValidationError

from engines.errors import BundleError
from engines.manifest import FORMAT_VERSION, GraphName, Manifest, Precision, Target

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 8 << 20
ARCHIVE_SUFFIX = ".lvm"

Buffer = bytes | memoryview


class _Files(Protocol):
    """Where a bundle's bytes come from."""

    def read(self, path: str, limit: int) -> Buffer:
        """All bytes of one file; raises BundleError when it is absent, no plain file or above `limit`."""


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, limit: int) -> Buffer:
        place = self._root
        for part in _safe(path).parts:
            place = place / part
            if place.is_symlink():
                raise BundleError(f"bundle {self._root}: {path} is or lies behind a link; copy the real file")
        try:
            # Before it is opened: opening a pipe waits for somebody who writes into it.
            if not stat.S_ISREG(place.stat().st_mode):
                raise BundleError(f"bundle {self._root}: {path} must be a plain file")
            with place.open("rb") as file:
                size = place.stat().st_size
                if size > limit:
                    raise BundleError(
                        f"bundle {self._root}: {path} has {size} bytes, {limit} expected at most"
                    )
                if size == 0:
                    return b""
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError:
            raise BundleError(f"bundle {self._root}: {path} is missing; export or copy it again") from None
        except OSError as error:
            raise BundleError(f"bundle {self._root}: {path} cannot be read: {error.strerror}") from error


class _Archive:
    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._zip = zipfile.ZipFile(file)
        except Exception as error:  # zipfile passes the errors of its decompressors on
            raise BundleError(
                f"{file} is no bundle: expected a directory with {MANIFEST} or an archive of one ({error})"
            ) from error

    def read(self, path: str, limit: int) -> Buffer:
        try:
            info = self._zip.getinfo(str(_safe(path)))
        except KeyError:
            raise BundleError(f"bundle {self._file}: {path} is missing; pack it again") from None
        if info.file_size > limit:
            raise BundleError(
                f"bundle {self._file}: {path} has {info.file_size} bytes, {limit} expected at most"
            )
        try:
            return self._zip.read(info)
        except Exception as error:  # zipfile passes the errors of its decompressors on
            raise BundleError(f"bundle {self._file}: {path} cannot be read: {error}") from error


class Bundle:
    """A verified bundle. `open` reads and checks the manifest; each file is checked when it is read."""

    def __init__(self, path: Path, files: _Files, manifest: Manifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        """SHA-256 of the manifest, which holds the hash of every file: the identity of this model."""
        self._files = files

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Open a bundle directory or archive and verify every file that the manifest names.

        Raises BundleError in one sentence for anything missing, foreign, damaged or of another format.
        """
        if not path.exists():
            raise BundleError(f"bundle {path} does not exist; name a directory made by lvm-export")
        files: _Files = _Directory(path) if path.is_dir() else _Archive(path)
        raw = bytes(files.read(MANIFEST, MAX_MANIFEST_BYTES))
        bundle = cls(path, files, _parse(path, raw), hashlib.sha256(raw).hexdigest())
        for name in bundle.manifest.files:
            bundle.read(name)
        return bundle

    def read(self, name: str) -> Buffer:
        """Verified bytes of one file of the manifest."""
        record = self.manifest.files.get(name)
        if record is None:
            raise BundleError(f"bundle {self.path}: {name} is not in the manifest")
        data = self._files.read(name, record.bytes)
        found = hashlib.sha256(data).hexdigest()
        if found != record.sha256:
            raise BundleError(
                f"bundle {self.path}: {name} is damaged (SHA-256 {record.sha256[:12]}… expected, "
                f"{found[:12]}… found); export or copy it again"
            )
        return data

    def graph(self, target: Target, name: GraphName) -> tuple[Buffer, Precision]:
        """Verified bytes and precision of one graph. Raises BundleError where `target` was not exported."""
        graphs = self.manifest.graphs.get(target)
        if graphs is None:
            have = ", ".join(sorted(self.manifest.graphs))
            raise BundleError(
                f"bundle {self.path} has no graphs for {target}, only for {have}; "
                f"export it with lvm-export --bundle {self.path} --target {target}"
            )
        record = graphs[name]
        return self.read(record.path), record.precision

    def own_weights(self, target: Target, name: GraphName) -> Buffer | None:
        """Verified bytes of the weights that belong to one graph alone; None where it has none beside it."""
        data = self.manifest.graphs[target][name].data
        return None if data is None else self.read(data)

    def weights(self) -> Buffer | None:
        """Verified bytes of the shared weights, None where the graphs carry their own."""
        return None if self.manifest.weights is None else self.read(self.manifest.weights)


def pack(directory: Path, archive: Path) -> None:
    """Write the bundle in `directory` as one file; equal bundles give equal bytes."""
    bundle = Bundle.open(directory)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for name in [MANIFEST, *sorted(bundle.manifest.files)]:
            out.writestr(zipfile.ZipInfo(name), (directory / name).read_bytes())


def _safe(path: str) -> PurePosixPath:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise BundleError(f"bundle paths must stay inside the bundle, got {path!r}")
    return pure


def _parse(path: Path, raw: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            f"bundle {path}: {MANIFEST} is not of format {FORMAT_VERSION}: {where[:100]}: "
            f"{first['msg'][:200]} ({error.error_count()} problems); "
            "use the lvm-edge that made it or export again"
        ) from error
