"""A step as bytes, losslessly, in about half of what its tokens take.

Letters: B frames, P = 49 cells, d width, m slots, k candidates.

A token is written as its difference to the last one that was written for its cell, in steps of half
precision: on a fixed camera most differences are small, and the two bytes of each are then coded apart. A
record can therefore be read after all those before it only, which is how a journal is read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.frame import CELLS, MAX_T
from edge_runtime.memory.recurrent_state import ArraySpec, check_specs
from edge_runtime.memory.token_memory import Features
from edge_runtime.memory.version import ClipUpdate, Step
from edge_runtime.persistence.header import MAX_COUNT, MAX_PERIOD_S
from edge_runtime.persistence.validation import HALF, MAX_CLIP, MAX_LENGTH, check_numbers
from engines.spec import Array

Keys = NDArray[np.uint16]  # half precision numbers in their order

_HEAD = struct.Struct("<HHIIIdQQ")
"""B, d, bytes of the tokens, k, m + k, period, frames seen and dropped by the source so far."""
_NONE = 0xFFFFFFFF
_ZERO = 0x8000
"""The key of 0; that of -0 is one less."""


@dataclass(frozen=True)
class Record:
    """A step and where the source stood when it had been taken."""

    step: Step
    seen: int = 0
    dropped: int = 0


class RecordCoder:
    """Writes or reads the records of one journal, from its first on. One coder does one of the two.

    No record has more than `clip_frames` frames; with each clip update come the arrays `brought`.
    """

    def __init__(
        self, width: int, clip_frames: int = MAX_CLIP, brought: Mapping[str, ArraySpec] | None = None
    ) -> None:
        self._last: Keys = np.zeros((CELLS, width), np.uint16)
        self._clip_frames = clip_frames
        self._brought = dict(sorted((brought or {}).items()))

    def encode(self, record: Record) -> bytes:
        step, update = record.step, record.step.clip_update
        keys = _keys(step.features)  # (B, 49, d)
        there = np.asarray((keys != _ZERO).any(axis=2))  # (B, 49)
        tokens = _packed(np.concatenate([self._difference(keys[i], there[i]) for i in range(len(keys))]))
        kept = None if update is None or update.candidates is None else update.candidates.astype("<u4")
        scores = None if update is None else update.scores.astype("<f4")
        head = _HEAD.pack(
            len(keys),
            keys.shape[2],
            len(tokens),
            _NONE if kept is None else len(kept),
            _NONE if scores is None else len(scores),
            step.period,
            record.seen,
            record.dropped,
        )
        parts = [
            np.asarray(step.times, "<f8"),
            step.residual.astype("<f4"),
            np.packbits(there),
            *(part for part in (kept, scores) if part is not None),
            *(() if update is None else (_little(update.outputs[name]) for name in self._brought)),
        ]
        return head + b"".join(part.tobytes() for part in parts) + tokens

    def decode(self, data: bytes) -> Record:
        """Raises ValueError for bytes that no encoder wrote, and for numbers that no run has."""
        if len(data) < _HEAD.size:
            raise ValueError("a record is shorter than its head")
        frames, width, size, k, n, period, seen, dropped = _HEAD.unpack_from(data)
        if width != self._last.shape[1] or not 0 < frames <= self._clip_frames:
            raise ValueError(f"a record of {frames} frames of width {width}")
        rest = _Rest(data, _HEAD.size)
        times = rest.take("<f8", frames)
        residual = rest.take("<f4", frames * CELLS).astype(np.float32).reshape(frames, CELLS)
        bits = rest.take("u1", -(-frames * CELLS // 8)).astype(np.uint8)
        there = np.unpackbits(bits, count=frames * CELLS).astype(np.bool_).reshape(frames, CELLS)
        kept = None if k == _NONE else rest.take("<u4", k).astype(np.intp)
        update = None
        if n != _NONE:
            update = ClipUpdate(kept, rest.take("<f4", n).astype(np.float32), self._carried_on(rest))
        differences = _unpacked(rest.take("u1", size).tobytes(), int(there.sum()), width)
        rest.check_end()
        features = np.zeros((frames, CELLS, width), np.float32)
        start = 0
        for i, here in enumerate(there):
            stop = start + int(here.sum())
            self._last[here] += _unzigzag(differences[start:stop])
            features[i, here] = _halves(self._last[here]).astype(np.float32)
            start = stop
        step = Step(features, residual, tuple(times.tolist()), period, update)
        _check_sense(step, self._clip_frames)
        if max(seen, dropped) > MAX_COUNT:
            raise ValueError(f"a record's counts must be at most {MAX_COUNT}")
        return Record(step, seen, dropped)

    def _carried_on(self, rest: _Rest) -> dict[str, Array]:
        """Read the outputs of a clip update. Raises ValueError for numbers that no engine returns."""
        found: dict[str, Array] = {}
        for name, kept in self._brought.items():
            flat = rest.take(np.dtype(kept.dtype).newbyteorder("<").str, int(np.prod(kept.shape)))
            found[name] = flat.astype(kept.dtype).reshape(kept.shape)
        check_specs("a record", found, self._brought)
        return found

    def _difference(self, keys: Keys, there: NDArray[np.bool_]) -> Keys:
        """What this frame's tokens differ from the last ones of their cells, small for either sign. (n, d)"""
        difference = keys[there] - self._last[there]
        self._last[there] = keys[there]
        return _zigzag(difference)


def _check_sense(step: Step, clip_frames: int) -> None:
    """Raises ValueError for what has the form of a step and could not be one."""
    check_numbers("a record's times", np.asarray(step.times), MAX_T)
    check_numbers("a record's period", np.asarray([step.period]), MAX_PERIOD_S)
    if step.period <= 0:
        raise ValueError(f"a record's period must be above 0, got {step.period:g}")
    check_numbers("a record's tokens", step.features, HALF)
    check_numbers("a record's residuals", step.residual, MAX_LENGTH)
    update = step.clip_update
    if update is None:
        return
    check_numbers("a record's scores", update.scores, float(np.finfo(np.float32).max))
    kept = update.candidates
    if kept is not None and not (
        (kept[1:] > kept[:-1]).all() and (kept[-1:] < clip_frames * CELLS).all() and len(kept)
    ):
        raise ValueError("a record's candidates must be tokens of its clip, in their order")


class _Rest:
    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def take(self, dtype: str, count: int) -> NDArray[np.generic]:
        stop = self._at + np.dtype(dtype).itemsize * count
        if stop > len(self._data):
            raise ValueError(f"a record of {len(self._data)} bytes should have {stop} or more")
        array = np.frombuffer(self._data, dtype, count, self._at)
        self._at = stop
        return array

    def check_end(self) -> None:
        if self._at != len(self._data):
            raise ValueError(f"a record of {len(self._data)} bytes should have {self._at}")


def _little(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("<"))


def _keys(features: Features) -> Keys:
    """Half precision numbers as integers of the same order; each has its own, -0 too."""
    bits = np.ascontiguousarray(features, np.float16).view(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000).astype(np.uint16)


def _halves(keys: Keys) -> NDArray[np.float16]:
    bits = np.where(keys & 0x8000, keys & 0x7FFF, ~keys).astype(np.uint16)
    return bits.view(np.float16)


def _zigzag(difference: Keys) -> Keys:
    signed = difference.view(np.int16)
    return ((signed << 1) ^ (signed >> 15)).view(np.uint16)


def _unzigzag(folded: Keys) -> Keys:
    return np.asarray((folded >> 1) ^ (~(folded & 1) + np.uint16(1)))


def _packed(differences: Keys) -> bytes:
    """Low bytes, then high bytes, deflated by runs and Huffman codes: there is nothing more to match."""
    planes = np.ascontiguousarray(differences.astype("<u2")).view(np.uint8).reshape(-1, 2).T
    coder = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return coder.compress(np.ascontiguousarray(planes).tobytes()) + coder.flush()


def _unpacked(data: bytes, tokens: int, width: int) -> Keys:
    size = 2 * tokens * width
    try:
        coder = zlib.decompressobj(-15)
        planes = coder.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(f"a record's tokens: {error}") from error
    if len(planes) != size or not coder.eof:
        raise ValueError(f"a record's tokens should be {size} bytes, got {len(planes)}")
    pairs = np.frombuffer(planes, np.uint8).reshape(2, -1).T
    return np.ascontiguousarray(pairs).view("<u2").astype(np.uint16).reshape(tokens, width)
