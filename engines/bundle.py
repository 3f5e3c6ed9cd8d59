"""Read and verify a bundle: everything that a device needs to run one trained model.

    manifest.json
    graphs/<target>/<name>.onnx     backbone, sampler, reader
    weights.safetensors             one copy; the graphs' initialisers point into it

A directory, or one uncompressed zip archive of it. Whenever a file is read its SHA-256 is compared with the
manifest, and only those bytes are handed to a backend: a file that is replaced afterwards changes nothing.
Only files that the manifest names are ever opened; links and paths that leave the bundle are refused. Hashes
say that a bundle is whole, not who made it, so what its graphs may do is checked too (`engines.graph_check`).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import Protocol

from pydantic import ValidationError

from engines.errors import BundleError, printable
from engines.graph_check import check_onnx, check_openvino
from engines.manifest import FORMAT_VERSION, GraphName, Manifest, Precision, Target

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 8 << 20
MAX_ENTRIES = 1000
"""Files of one archive."""
MAX_DIRECTORY_BYTES = 1 << 20
"""Size of the list of files at an archive's end, which is read before anything can be checked."""

Buffer = bytes | memoryview


class _Files(Protocol):
    """Where a bundle's bytes come from."""

    def read(self, path: str, limit: int) -> Buffer:
        """All bytes of one file; raises BundleError when it is absent, no plain file or above `limit`."""


class _Directory:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, limit: int) -> Buffer:
        file_path = self._root
        for part in _check_path(path).parts:
            file_path = file_path / part
            if file_path.is_symlink():
                raise BundleError(f"bundle {self._root}: {path} is or lies behind a link; copy the real file")
        try:
            # The status of the open file, as the path may change meanwhile. NONBLOCK because opening a pipe
            # would wait for a writer.
            file = os.open(file_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(file)
                if not stat.S_ISREG(status.st_mode):
                    raise BundleError(f"bundle {self._root}: {path} must be a plain file")
                if status.st_size > limit:
                    raise BundleError(
                        f"bundle {self._root}: {path} has {status.st_size} bytes, {limit} expected at most"
                    )
                if status.st_size == 0:
                    return b""
                return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
            finally:
                os.close(file)
        except FileNotFoundError:
            raise BundleError(f"bundle {self._root}: {path} is missing; export or copy it again") from None
        except OSError as error:
            raise BundleError(f"bundle {self._root}: {path} cannot be read: {error.strerror}") from error


class _Archive:
    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            _check_directory(file)
            self._zip = zipfile.ZipFile(file)
            names = self._zip.namelist()
            if len({name.casefold() for name in names}) != len(names):
                raise BundleError(f"bundle {file}: two files of the archive have one name; pack it again")
        except BundleError:
            raise
        except Exception as error:  # zipfile passes the errors of its decompressors on
            raise BundleError(
                f"{file} is no bundle: expected a directory with {MANIFEST} or an archive of one "
                f"({_short(error)})"
            ) from error

    def read(self, path: str, limit: int) -> Buffer:
        try:
            info = self._zip.getinfo(str(_check_path(path)))
        except KeyError:
            raise BundleError(f"bundle {self._file}: {path} is missing; pack it again") from None
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            # A stored file cannot be larger than the archive.
            raise BundleError(f"bundle {self._file}: {path} is compressed or encrypted; pack it again")
        if info.file_size > limit:
            raise BundleError(
                f"bundle {self._file}: {path} has {info.file_size} bytes, {limit} expected at most"
            )
        try:
            return self._zip.read(info)
        except Exception as error:  # zipfile passes the errors of its decompressors on
            raise BundleError(f"bundle {self._file}: {path} cannot be read: {_short(error)}") from error


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
        """Return the verified bytes of one file of the manifest."""
        record = self.manifest.files.get(name)
        if record is None:
            raise BundleError(f"bundle {self.path}: {name} is not in the manifest")
        data = self._files.read(name, record.bytes)
        digest = hashlib.sha256(data).hexdigest()
        if digest != record.sha256:
            raise BundleError(
                f"bundle {self.path}: {name} is damaged (SHA-256 {record.sha256[:12]}… expected, "
                f"{digest[:12]}… found); export or copy it again"
            )
        return data

    def graph(self, target: Target, name: GraphName) -> tuple[Buffer, Precision]:
        """Return the verified bytes and the precision of one graph, checked by `graph_check`.

        Raises BundleError where `target` was not exported, or the graph is not of the kind that we export.
        """
        graphs = self.manifest.graphs.get(target)
        if graphs is None:
            targets = ", ".join(sorted(self.manifest.graphs))
            raise BundleError(
                f"bundle {self.path} has no graphs for {target}, only for {targets}; "
                f"export it with lvm-export --bundle {self.path} --target {target}"
            )
        record = graphs[name]
        data = self.read(record.path)
        weights = self.manifest.weights
        try:
            if record.data is not None and bytes(data[:1]) == b"<":
                check_openvino(data)
            else:
                size = self.manifest.files[weights].bytes if weights is not None else 0
                check_onnx(data, weights_name=weights, weights_bytes=size)
        except BundleError as error:
            raise BundleError(f"bundle {self.path}: {record.path}: {error}") from None
        return data, record.precision

    def own_weights(self, target: Target, name: GraphName) -> Buffer | None:
        """Return the verified weights that belong to one graph alone; None where it has none."""
        data = self.manifest.graphs[target][name].data
        return None if data is None else self.read(data)

    def weights(self) -> Buffer | None:
        """Return the verified shared weights, None where the graphs carry their own."""
        return None if self.manifest.weights is None else self.read(self.manifest.weights)


def pack(directory: Path, archive: Path) -> None:
    """Write the bundle in `directory` as one file; equal bundles give equal bytes."""
    bundle = Bundle.open(directory)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for name in [MANIFEST, *sorted(bundle.manifest.files)]:
            out.writestr(zipfile.ZipInfo(name), (directory / name).read_bytes())


def _short(error: Exception) -> str:
    """Return zipfile's message, escaped and short: it repeats whole names from the file."""
    return ascii(str(error))[1:-1][:200]


def _check_directory(file: Path) -> None:
    """Bound an archive's list of files before zipfile reads it whole."""
    with file.open("rb") as archive:
        size = archive.seek(0, os.SEEK_END)
        archive.seek(max(0, size - (1 << 16) - 22))
        tail = archive.read()
        at = tail.rfind(b"PK\5\6")
        if at < 0 or at + 22 > len(tail):
            return  # no archive: zipfile says so
        if tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0":
            at = len(tail) - 22  # an archive without a comment; zipfile looks there first, too
        entries, listed = struct.unpack_from("<10xHI", tail, at)
        if entries > MAX_ENTRIES or listed > MAX_DIRECTORY_BYTES:
            raise BundleError(
                f"bundle {file}: an archive has at most {MAX_ENTRIES} files, got {entries} "
                f"in a list of {listed} bytes"
            )


def _check_path(path: str) -> PurePosixPath:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise BundleError(f"bundle paths must stay inside the bundle, got {path!r}")
    return pure


def _parse(path: Path, raw: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = printable(".".join(str(part) for part in first["loc"])) or "the file"
        raise BundleError(
            f"bundle {path}: {MANIFEST} is not of format {FORMAT_VERSION}: {where[:100]}: "
            f"{first['msg'][:200]} ({error.error_count()} problems); "
            "use the lvm-edge that made it or export again"
        ) from error
