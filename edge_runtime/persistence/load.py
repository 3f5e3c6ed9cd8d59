"""From the files of a state folder to the newest state that they hold."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.recurrent_state import brought_by
from edge_runtime.memory.samplers import Novelty, Sampler, thins
from edge_runtime.memory.token_memory import Scores, TokenMemory, Tokens
from edge_runtime.memory.version import without_beaten
from edge_runtime.persistence.encryption import Key
from edge_runtime.persistence.errors import Damaged, StateError
from edge_runtime.persistence.filesystem import Disk
from edge_runtime.persistence.header import Header
from edge_runtime.persistence.journal import PREFIX, Scanned, journal_name, scan
from edge_runtime.persistence.sealing import Seal, seal_of
from edge_runtime.persistence.snapshot import FILE, PREVIOUS, Saving, Snapshot, decode
from edge_runtime.persistence.step_codec import Record, RecordCoder
from engines.network_config import NetworkConfig
from engines.spec import Array, Engine, Feeds

log = logging.getLogger(__name__)


def load_snapshot(
    folder: Path,
    network: NetworkConfig | None = None,
    key: Key | None = None,
    *,
    disk: Disk | None = None,
    seal: Seal | None = None,
) -> Snapshot | None:
    """The newest state that is sound, None where there is none. `network` checks that shapes fit, `key` opens
    what is sealed (`seal` is made of it, unless given).

    That is the snapshot and what its journal adds, up to where that was torn. A damaged snapshot falls back
    to the one before, which its own journal and then the newer one bring as far. Raises StateError if files
    are there but none can be used, or if what can be read is of a later version or another bundle; nothing
    is ever deleted here.
    """
    disk, seal = disk or Disk(), seal or seal_of(key)
    if folder.is_file():
        raise StateError(f"state {folder} must be a folder, got a file")
    problems: list[str] = []
    for name in (FILE, PREVIOUS):
        try:
            data = disk.read(folder / name)
            snapshot = decode(data, seal, network)
            found = replace(snapshot, saving=Saving(snapshot.header.written + len(data)))
            found = _Journals(folder, disk, seal).continued(found)
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
        return found
    if problems:
        raise StateError(
            f"state {folder} cannot be used: {'; '.join(problems)}; move it away or name another --state"
        )
    return None


def load_header(folder: Path, key: Key | None = None) -> Header | None:
    """What is said of the newest sound snapshot, without the journal: whose memory lies there, at the cost of
    one small file. None where nothing can be read, whatever the reason."""
    disk, seal = Disk(), seal_of(key)
    for name in (FILE, PREVIOUS):
        try:
            return decode(disk.read(folder / name), seal).header
        except (StateError, OSError):  # whoever opens the folder is told what is wrong with it
            continue
    return None


class _Journals:
    """The journals of a folder, each taken up where it goes on from what was replayed."""

    def __init__(self, folder: Path, disk: Disk, seal: Seal) -> None:
        self._folder, self._disk, self._seal = folder, disk, seal

    def continued(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot and everything that its journal, and those that follow it, say came after."""
        network = snapshot.header.network
        if network is None:  # of version 1, which had no journal
            return snapshot
        here = self._scanned(journal_name(snapshot.header.id))
        if here is None or here.snapshot != snapshot.header.id:
            return snapshot
        others = self._others(here)
        replay = _Replay(snapshot, network)
        # As many threads as in a run (engine_set.py): sums of another order have other last digits.
        with threadpool_limits(1, user_api="blas"):
            while replay.take(here):
                following = [one for one in others if (one.after, one.frames) == (here.end, replay.frames)]
                if not following:
                    break
                here = following[0]
                others.remove(here)
        if here.size != here.file_size:
            log.warning(
                "state %s: %d bytes at the end of the journal of %s are no whole record and are left out",
                self._folder, here.file_size - here.size, here.snapshot,
            )  # fmt: skip
        return replay.result()

    def _others(self, here: Scanned) -> list[Scanned]:
        names = (name for name in self._disk.names(self._folder) if name.startswith(PREFIX))
        scanned = [self._scanned(name) for name in names if name != journal_name(here.snapshot)]
        return [one for one in scanned if one is not None]

    def _scanned(self, name: str) -> Scanned | None:
        try:
            data = self._disk.read(self._folder / name)
        except FileNotFoundError:
            return None
        return scan(data, self._seal)


class _Replay:
    """A snapshot on which the steps of journals are taken again."""

    def __init__(self, snapshot: Snapshot, network: NetworkConfig) -> None:
        self._snapshot, self._network = snapshot, network
        self._thins = thins(snapshot.header.sampler)
        nothing = _NoEngine()
        judge = Sampler(snapshot.header.sampler, _never, self._thins)
        self._ingest = Ingest(network, nothing, judge, snapshot.version)
        self._newest: Record | None = None
        self._bytes = 0

    @property
    def frames(self) -> int:
        """Frames of the state that was reached."""
        return self._ingest.version.frames

    def take(self, journal: Scanned) -> bool:
        """Take a journal's steps. Whether all of them fitted. Raises StateError for what is no step."""
        self._bytes += journal.size
        network = self._network
        coder = RecordCoder(network.d_backbone, network.clip_frames, brought_by(network))
        for payload in journal.payloads:
            try:
                record = coder.decode(payload)
            except ValueError as error:
                raise StateError(f"its journal is not understood ({error})") from error
            try:
                self._ingest.repeat(record.step)
            except ValueError as error:
                log.warning("journal of %s: %s; what comes after is left out", journal.snapshot, error)
                return False
            self._newest = record
        return True

    def result(self) -> Snapshot:
        self._ingest.close()
        version, header = self._ingest.version, self._snapshot.header
        if self._newest is not None:
            if self._thins:
                version = without_beaten(version, self._network)
            header = header.model_copy(
                update={
                    "last_t": self._newest.step.times[-1],
                    "seen": self._newest.seen,
                    "dropped": self._newest.dropped,
                    "ended": False,
                }
            )
        return Snapshot(header, version, Saving(self._snapshot.saving.written + self._bytes))


class _NoEngine(Engine):
    """In the place of engines that a replay must not need."""

    backend, inputs, outputs = "none", (), ()

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        raise AssertionError("a journal is replayed without engines")


def _never(memory: TokenMemory, clip: Tokens, novelty: Novelty) -> Scores:
    raise AssertionError("a journal is replayed with the verdicts that it holds")
