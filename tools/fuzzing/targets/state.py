"""Fuzz state files with correct checksums: they are loaded, displayed, asked, continued and saved.

A case is a snapshot, with its own checksum or without one, which is then added; or JOURNAL and the records of
a journal, each after its length, which then continue a valid snapshot.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

from edge_runtime.frame import MAX_TICK
from edge_runtime.ingest.pipeline import Ingest
from edge_runtime.memory.samplers import make_sampler
from edge_runtime.memory.version import Step, Version
from edge_runtime.persistence import FILE, MAGIC, Snapshot, StateFolder, load_snapshot
from edge_runtime.persistence.encryption import Seal
from edge_runtime.persistence.journal import MAGIC as JOURNAL_MAGIC
from edge_runtime.persistence.journal import first_checksum, journal_name, next_checksum
from edge_runtime.persistence.snapshot import decode
from edge_runtime.query.schema import parse_query
from edge_runtime.service.status import make_status
from tools.fuzzing.mutate import encode_safetensors, mutate_bytes, mutate_json, mutate_safetensors_header
from tools.fuzzing.small import SmallService

WORDS = (
    "dtype", "shape", "data_offsets", "F16", "F32", "F64", "I64", "I32", "I8", "U8", "BOOL", "BF16",
    "F8_E4M3", "__metadata__",
    "header", "memory.features", "memory.tick", "memory.cell", "memory.score", "memory.valid", "pending",
    "pending_residual", "svd.basis", "svd.strength", "svd.mean", "cell_means", "novelty_scale",
    "coverage.merged", "format_version",
)  # fmt: skip
HEADER = (
    "format_version", "model", "bundle", "source", "sampler", "epoch", "sample_fps", "last_t", "ended",
    "seen", "dropped", "id", "network", "written", "camera", "coverage_notes",
    "coverage_frames", "frame_period",
    "frames", "last_tick", "memory_version", "coverage", "pending_ticks", "svd",
)  # fmt: skip
JOURNAL = b"JOURNAL:"


class Target:
    max_bytes = 8192

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "state"
        self._folder.mkdir(exist_ok=True)
        self._service = SmallService(folder)
        self._empty = SmallService(folder, frames=0)
        header = self._service.header.model_copy(update={"network": self._service.manifest.network})
        self._before = Snapshot(header, self._service.version)
        self._valid_snapshot, self._name = b"", ""
        self._make_journal_case()
        self._question = parse_query('{"type": "object", "activity": "scan"}')

    def seeds(self) -> list[bytes]:
        made = []
        for service in (self._service, self._empty):
            with StateFolder(self._folder) as folder:
                folder.save(service.snapshot())
            data = (self._folder / FILE).read_bytes()
            made += [data[40:], data]
        return [*made, self._make_journal_case()]

    def _make_journal_case(self) -> bytes:
        """Make the case of a journal as a run writes it, which continues the valid snapshot."""
        steps: list[Step] = []
        version = self._ingest_more(self._before.version, steps)
        with StateFolder(self._folder) as folder:
            folder.save(self._before)
            snapshot = Snapshot(self._before.header, version)
            folder.append(steps, lambda: snapshot, within=0.0)
        names = {file.name: file.read_bytes() for file in self._folder.iterdir()}
        self._valid_snapshot = names[FILE]
        self._name = journal_name(decode(self._valid_snapshot, Seal()).header.id)
        data, at, records = names[self._name], 8, JOURNAL
        while at < len(data):
            stop = at + 20 + int.from_bytes(data[at : at + 4], "little")
            records += data[at : at + 4] + data[at + 20 : stop]
            at = stop
        return records

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        if data.startswith(MAGIC):
            return None
        kind = rng.random()
        changed = None
        if kind < 0.4:
            changed = mutate_safetensors_header(data, rng, WORDS)
        elif kind < 0.8:
            changed = _mutate_header(data, rng)
        return changed if changed is not None else mutate_bytes(data, rng, [word.encode() for word in WORDS])

    def run(self, data: bytes) -> None:
        for file in self._folder.iterdir():
            file.unlink()
        if data.startswith(JOURNAL):
            (self._folder / self._name).write_bytes(_encode_journal(data[len(JOURNAL) :]))
            data = self._valid_snapshot
        elif not data.startswith(MAGIC):
            data = MAGIC + hashlib.sha256(MAGIC + data).digest() + data
        (self._folder / FILE).write_bytes(data)
        network = self._service.manifest.network
        snapshot = load_snapshot(self._folder, network)
        assert snapshot is not None
        # Display, ask, continue and save what was loaded, as `run` would.
        snapshot.header.resume_at()
        json.dumps(make_status(snapshot, self._folder).as_json(), allow_nan=False)
        answer = self._service.ask_version(self._question, snapshot.version)
        json.dumps(answer.model_dump(mode="json"), allow_nan=False)
        if (snapshot.version.last_tick or 0) < MAX_TICK - 100:  # otherwise its stream is at its end
            continued = self._ingest_more(snapshot.version, [])
            with StateFolder(self._folder) as folder:
                folder.save(Snapshot(snapshot.header, continued))
            assert load_snapshot(self._folder, network) is not None

    def _ingest_more(self, version: Version, steps: list[Step]) -> Version:
        """Ingest four more frames, which end at least one clip; add their steps to `steps`."""
        network, reader = self._service.manifest.network, self._service.asker._reader
        backbone = self._service.asker._objects._backbone  # type: ignore[attr-defined]
        ingest = Ingest(network, backbone, make_sampler("fifo", reader), version, on_step=steps.append)
        try:
            at = 0.0 if version.last_tick is None else version.last_tick / 5 + 1
            return ingest.push([self._service._frame_at(at + i) for i in range(4)])
        finally:
            ingest.close()


def _encode_journal(records: bytes) -> bytes:
    """Return a journal's bytes: each record with its correct checksum."""
    data, total, at = bytearray(JOURNAL_MAGIC), first_checksum(), 0
    while at + 4 <= len(records):
        stop = at + 4 + int.from_bytes(records[at : at + 4], "little")
        payload = records[at + 4 : stop]
        total = next_checksum(total, payload)
        data += len(payload).to_bytes(4, "little") + total + payload
        at = stop
    return bytes(data)


def _mutate_header(data: bytes, rng: Random) -> bytes | None:
    """Change the JSON of our own header, inside the file's metadata, and correct both lengths."""
    size = int.from_bytes(data[:8], "little")
    try:
        outer = json.loads(data[8 : 8 + size])
        inner = mutate_json(outer["__metadata__"]["header"].encode(), rng, HEADER)
        outer["__metadata__"]["header"] = (inner or b"").decode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return encode_safetensors(outer, data[8 + size :])
