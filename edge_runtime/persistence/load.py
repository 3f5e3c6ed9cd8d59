"""Load the newest state that the files of a folder hold, and check that it is of this bundle and source."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from edge_runtime.memory.recurrent_state import clip_output_specs
from edge_runtime.memory.samplers import prefilters
from edge_runtime.memory.version import apply, prune_tokens
from edge_runtime.persistence.encryption import Key, Seal
from edge_runtime.persistence.errors import Damaged, StateError
from edge_runtime.persistence.filesystem import Disk
from edge_runtime.persistence.header import Header
from edge_runtime.persistence.journal import PREFIX, JournalScan, journal_name, scan
from edge_runtime.persistence.snapshot import FILE, PREVIOUS, SaveStatus, Snapshot, decode
from edge_runtime.persistence.step_codec import Record, RecordCoder
from edge_runtime.sources import is_live
from edge_runtime.sources.spec import identify_source
from edge_runtime.system.secrets import show_source
from edge_runtime.system.text import printable
from engines.bundle import Bundle
from engines.network_config import NetworkConfig

log = logging.getLogger(__name__)


def load_snapshot(
    folder: Path,
    network: NetworkConfig | None = None,
    key: Key | None = None,
    *,
    disk: Disk | None = None,
    seal: Seal | None = None,
) -> Snapshot | None:
    """Return the newest state that is sound, None where there is none.

    That is the snapshot with the steps of its journal, up to where that was torn. A damaged snapshot falls
    back to the one before, which its own journal and then the newer one bring as far. `network` checks that
    shapes fit; `key` decrypts, through `seal` unless that is given. Raises StateError if files are there but
    none can be used, or if they are of a later version or another bundle; no file is ever deleted here.
    """
    disk, seal = disk or Disk(), seal or Seal(key)
    if folder.is_file():
        raise StateError(f"state {folder} must be a folder, got a file")
    problems: list[str] = []
    for name in (FILE, PREVIOUS):
        try:
            data = disk.read(folder / name)
            snapshot = decode(data, seal, network)
            snapshot = replace(snapshot, saving=SaveStatus(snapshot.header.written + len(data)))
            snapshot = _replay_journals(snapshot, folder, disk, seal)
        except FileNotFoundError:
            continue
        except (Damaged, OSError) as error:
            problems.append(f"{name}: {error}")
            continue
        except StateError as error:
            raise StateError(
                f"state {folder} cannot be used: {name}: {error}; move it away or name another --state"
            ) from error
        if problems:
            log.warning("state %s: %s; the snapshot before is used", folder, problems[0])
        return snapshot
    if problems:
        raise StateError(
            f"state {folder} cannot be used: {'; '.join(problems)}; move it away or name another --state"
        )
    return None


def load_header(folder: Path, key: Key | None = None) -> Header | None:
    """Return the header of the newest sound snapshot, without the journal: whose memory it is, at the cost of
    one small file. None where nothing can be read, whatever the reason."""
    disk, seal = Disk(), Seal(key)
    for name in (FILE, PREVIOUS):
        try:
            return decode(disk.read(folder / name), seal).header
        except (StateError, OSError):  # opening the folder will say what is wrong with it
            continue
    return None


def _replay_journals(snapshot: Snapshot, folder: Path, disk: Disk, seal: Seal) -> Snapshot:
    """Return the snapshot after all steps of its journal, and of the journals that continue that one."""
    network = snapshot.header.network
    if network is None:  # of version 1, which had no journal
        return snapshot
    journal = _scan(disk, folder / journal_name(snapshot.header.id), seal)
    if journal is None or journal.snapshot != snapshot.header.id:
        return snapshot
    names = (name for name in disk.names(folder) if name.startswith(PREFIX))
    scans = [_scan(disk, folder / name, seal) for name in names if name != journal_name(journal.snapshot)]
    others = [scanned for scanned in scans if scanned is not None]
    replay = _Replay(snapshot, network)
    # As many threads as in a run (engine_pool.py): sums of another order have other last digits.
    with threadpool_limits(1, user_api="blas"):
        while replay.apply_journal(journal):
            key = journal.end, replay.version.frames
            following = next((other for other in others if (other.after, other.frames) == key), None)
            if following is None:
                break
            journal = following
            others.remove(journal)
    if journal.size != journal.file_size:
        log.warning(
            "state %s: %d bytes at the end of the journal of %s are no whole record and are left out",
            folder, journal.file_size - journal.size, journal.snapshot,
        )  # fmt: skip
    return replay.result()


def _scan(disk: Disk, path: Path, seal: Seal) -> JournalScan | None:
    try:
        return scan(disk.read(path), seal)
    except FileNotFoundError:
        return None


class _Replay:
    """A snapshot to which the steps of journals are applied."""

    def __init__(self, snapshot: Snapshot, network: NetworkConfig) -> None:
        self._snapshot, self._network = snapshot, network
        self.version = snapshot.version
        self._newest: Record | None = None
        self._bytes = 0

    def apply_journal(self, journal: JournalScan) -> bool:
        """Apply a journal's steps; return whether all of them fitted. Raises StateError for a malformed
        one."""
        self._bytes += journal.size
        network = self._network
        coder = RecordCoder(network.d_backbone, network.clip_frames, clip_output_specs(network))
        for payload in journal.payloads:
            try:
                record = coder.decode(payload)
            except ValueError as error:
                raise StateError(f"its journal is not understood ({error})") from error
            try:
                self.version = apply(self.version, record.step, network)
            except ValueError as error:
                log.warning("journal of %s: %s; what comes after is left out", journal.snapshot, error)
                return False
            self._newest = record
        return True

    def result(self) -> Snapshot:
        """Return the snapshot of the version that was reached."""
        version, header = self.version, self._snapshot.header
        if self._newest is not None:
            if prefilters(header.sampler):
                version = prune_tokens(version, self._network)
            header = header.model_copy(
                update={
                    "last_t": self._newest.step.times[-1],
                    "seen": self._newest.seen,
                    "dropped": self._newest.dropped,
                    "ended": False,
                }
            )
        return Snapshot(header, version, SaveStatus(self._snapshot.saving.written + self._bytes))


def model_digest(bundle: Bundle) -> str:
    """Return the identity of a model, as far as memories depend on it: weights and shapes.

    Neither the export counts, nor which tokens leave a full memory (`spread`): a memory that was filled by
    the other rule is continued all the same.
    """
    manifest = bundle.manifest
    network = manifest.network.model_dump_json(exclude={"spread"})
    weights = manifest.files[manifest.weights].sha256 if manifest.weights else bundle.digest
    return hashlib.sha256((weights + network).encode()).hexdigest()


def is_same_source(header: Header, *, source: str, camera: str | None = None) -> bool:
    """Return whether a state is of this source, or of the live camera with this configured name.

    A live camera at another address is still the same camera; another file under the same name is another
    video with other times.
    """
    if header.source_id == identify_source(source):
        return True
    named = camera is not None and header.camera == camera
    return named and header.live and is_live(source)


def check_owner(header: Header, *, model: str, source: str, folder: Path, camera: str | None = None) -> None:
    """Raise StateError unless a state is of this model, and of the source or camera (`is_same_source`)."""
    if header.model != model:
        raise StateError(
            f"state {folder} was made by another bundle ({_printable(header.bundle)}); use that one or "
            "another --state"
        )
    check_source(header, source=source, folder=folder, camera=camera)


def check_source(header: Header, *, source: str, folder: Path, camera: str | None = None) -> None:
    """Raise StateError unless a state is of the source or camera (`is_same_source`)."""
    if not is_same_source(header, source=source, camera=camera):
        owner = _printable(header.source)
        if header.camera:
            owner += f" (camera {_printable(header.camera)})"
        raise StateError(
            f"state {folder} belongs to source {owner}, not {show_source(source)}; name another --state"
        )


def _printable(text: str) -> str:
    return printable(text)[:200]
