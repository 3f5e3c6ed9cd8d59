"""Mutations that know a format's parts: numbers, chunks, words, JSON. Bytes are libFuzzer's own business."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1)
NUMBERS += (2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


def number(data: bytes, dice: Random) -> bytes:
    """One number of 1, 2, 4 or 8 bytes becomes another that programs are known to stumble over."""
    size = dice.choice((1, 2, 2, 4, 4, 4, 8))
    if len(data) < size:
        return data
    at = dice.randrange(len(data) - size + 1)
    top = 1 << 8 * size
    order = dice.choice(("little", "big"))
    value = int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]
    other = dice.choice((dice.choice(NUMBERS), value + 1, value - 1, value * 2, -value, dice.randrange(top)))
    return data[:at] + (other % top).to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def splice(data: bytes, dice: Random, words: Sequence[bytes]) -> bytes:
    """A word of the format is put in, or put over what is there."""
    word = dice.choice(words)
    at = dice.randrange(len(data) + 1)
    return data[:at] + word + data[at + (len(word) if dice.random() < 0.5 else 0) :]


def shuffle(data: bytes, dice: Random) -> bytes:
    """A part is cut out, repeated or moved."""
    if len(data) < 2:
        return data
    a, b = sorted(dice.sample(range(len(data) + 1), 2))
    b = min(b, a + 4096)
    part = data[a:b]
    kind = dice.randrange(4)
    if kind == 0:
        return data[:a] + data[b:]
    if kind == 1:
        return data[:a]
    at = dice.randrange(len(data) + 1)
    if kind == 2:
        return data[:at] + part * dice.choice((1, 1, 2, 10)) + data[at:]
    return data[:a] + data[b:at] + part + data[at:] if at > b else data


def any_bytes(data: bytes, dice: Random, words: Sequence[bytes]) -> bytes:
    """One to three of the above."""
    for _ in range(dice.choice((1, 1, 2, 3))):
        kind = dice.randrange(3)
        data = (
            number(data, dice)
            if kind == 0
            else shuffle(data, dice)
            if kind == 1
            else splice(data, dice, words)
        )
    return data


# -- JSON --------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 1e-308, 10**30, -(10**400), float("nan"), float("inf"),
    float("-inf"), "", " ", "a" * 300, "é", "\u2028", "\x00", "\x1b[31m", "\ud800", "../x", "/etc/passwd",
    "NaN", "1e5", [], {}, [[]], [{}], {"": ""}, 2**63, -(2**63) - 1, [0] * 50,
)  # fmt: skip


def json_tree(data: bytes, dice: Random, words: Sequence[str]) -> bytes | None:
    """The same JSON with one or two places changed; None where `data` is none."""
    try:
        tree = json.loads(data)
        for _ in range(dice.choice((1, 1, 2, 3))):
            tree = _changed(tree, dice, words)
        return json.dumps(tree).encode()
    except (ValueError, RecursionError):
        return None


def _changed(tree: Any, dice: Random, words: Sequence[str]) -> Any:
    if isinstance(tree, dict) and tree and dice.random() < 0.85:
        key = dice.choice(list(tree))
        kind = dice.random()
        if kind < 0.1:
            return {k: v for k, v in tree.items() if k != key}
        if kind < 0.2:
            return {**tree, dice.choice(words): _odd(dice, words)}
        if kind < 0.25:
            return {(dice.choice(words) if k == key else k): v for k, v in tree.items()}
        return {**tree, key: _changed(tree[key], dice, words)}
    if isinstance(tree, list) and tree and dice.random() < 0.85:
        at = dice.randrange(len(tree))
        kind = dice.random()
        if kind < 0.1:
            return tree[:at] + tree[at + 1 :]
        if kind < 0.25:
            return tree[:at] + [tree[at]] * dice.choice((2, 3, 40)) + tree[at:]
        return [*tree[:at], _changed(tree[at], dice, words), *tree[at + 1 :]]
    if isinstance(tree, (int, float)) and not isinstance(tree, bool) and dice.random() < 0.5:
        return dice.choice((tree + 1, tree - 1, -tree, tree * 1000, tree // 3))
    return _odd(dice, words)


def _odd(dice: Random, words: Sequence[str]) -> Any:
    return dice.choice(ODD) if dice.random() < 0.6 else dice.choice(words)


# -- protobuf ----------------------------------------------------------------------------------------------


def field(tag: int, value: int | bytes) -> bytes:
    """One field of a protobuf message: a varint or a length with its bytes."""
    if isinstance(value, int):
        return varint(tag << 3) + varint(value)
    return varint(tag << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def safetensors(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def json_header(data: bytes, dice: Random, words: Sequence[str]) -> bytes | None:
    """A safetensors file with one or two places of its header changed, and the length put right."""
    size = int.from_bytes(data[:8], "little")
    if size > len(data):
        return None
    tree = json_tree(data[8 : 8 + size], dice, words)
    return None if tree is None else safetensors(tree, data[8 + size :])
