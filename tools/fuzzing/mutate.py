"""Mutate data with knowledge of its format: numbers, chunks, words, JSON. libFuzzer mutates plain bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

NUMBERS: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    127,
    128,
    255,
    256,
    4095,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**31 - 1,
)
NUMBERS += (2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


def mutate_number(data: bytes, rng: Random) -> bytes:
    """Replace a number of 1, 2, 4 or 8 bytes by another that programs are known to fail on."""
    size = rng.choice((1, 2, 2, 4, 4, 4, 8))
    if len(data) < size:
        return data
    at = rng.randrange(len(data) - size + 1)
    top = 1 << 8 * size
    order = rng.choice(("little", "big"))
    value = int.from_bytes(data[at : at + size], order)  # type: ignore[arg-type]
    other = rng.choice((rng.choice(NUMBERS), value + 1, value - 1, value * 2, -value, rng.randrange(top)))
    return data[:at] + (other % top).to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def insert_word(data: bytes, rng: Random, words: Sequence[bytes]) -> bytes:
    """Insert a word of the format, or overwrite bytes with it."""
    word = rng.choice(words)
    at = rng.randrange(len(data) + 1)
    return data[:at] + word + data[at + (len(word) if rng.random() < 0.5 else 0) :]


def mutate_part(data: bytes, rng: Random) -> bytes:
    """Cut out, repeat or move a part."""
    if len(data) < 2:
        return data
    a, b = sorted(rng.sample(range(len(data) + 1), 2))
    b = min(b, a + 4096)
    part = data[a:b]
    kind = rng.randrange(4)
    if kind == 0:
        return data[:a] + data[b:]
    if kind == 1:
        return data[:a]
    at = rng.randrange(len(data) + 1)
    if kind == 2:
        return data[:at] + part * rng.choice((1, 1, 2, 10)) + data[at:]
    return data[:a] + data[b:at] + part + data[at:] if at > b else data


def mutate_bytes(data: bytes, rng: Random, words: Sequence[bytes]) -> bytes:
    """Apply one to three of the above."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.randrange(3)
        data = (
            mutate_number(data, rng)
            if kind == 0
            else mutate_part(data, rng)
            if kind == 1
            else insert_word(data, rng, words)
        )
    return data


# -- JSON --------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, -0.0, 1e308, 1e-308, 10**30, -(10**400), float("nan"), float("inf"),
    float("-inf"), "", " ", "a" * 300, "é", "\u2028", "\x00", "\x1b[31m", "\ud800", "../x", "/etc/passwd",
    "NaN", "1e5", [], {}, [[]], [{}], {"": ""}, 2**63, -(2**63) - 1, [0] * 50,
)  # fmt: skip


def mutate_json(data: bytes, rng: Random, words: Sequence[str]) -> bytes | None:
    """Return the JSON with one or two places changed; None if `data` is no JSON."""
    try:
        tree = json.loads(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            tree = _change_node(tree, rng, words)
        return json.dumps(tree).encode()
    except (ValueError, RecursionError):
        return None


def _change_node(tree: Any, rng: Random, words: Sequence[str]) -> Any:
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        key = rng.choice(list(tree))
        kind = rng.random()
        if kind < 0.1:
            return {k: v for k, v in tree.items() if k != key}
        if kind < 0.2:
            return {**tree, rng.choice(words): _draw_odd(rng, words)}
        if kind < 0.25:
            return {(rng.choice(words) if k == key else k): v for k, v in tree.items()}
        return {**tree, key: _change_node(tree[key], rng, words)}
    if isinstance(tree, list) and tree and rng.random() < 0.85:
        at = rng.randrange(len(tree))
        kind = rng.random()
        if kind < 0.1:
            return tree[:at] + tree[at + 1 :]
        if kind < 0.25:
            return tree[:at] + [tree[at]] * rng.choice((2, 3, 40)) + tree[at:]
        return [*tree[:at], _change_node(tree[at], rng, words), *tree[at + 1 :]]
    if isinstance(tree, (int, float)) and not isinstance(tree, bool) and rng.random() < 0.5:
        return rng.choice((tree + 1, tree - 1, -tree, tree * 1000, tree // 3))
    return _draw_odd(rng, words)


def _draw_odd(rng: Random, words: Sequence[str]) -> Any:
    return rng.choice(ODD) if rng.random() < 0.6 else rng.choice(words)


# -- protobuf ----------------------------------------------------------------------------------------------


def encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def encode_safetensors(header: Any, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def mutate_safetensors_header(data: bytes, rng: Random, words: Sequence[str]) -> bytes | None:
    """Return a safetensors file with one or two places of its header changed and its length corrected."""
    size = int.from_bytes(data[:8], "little")
    if size > len(data):
        return None
    tree = mutate_json(data[8 : 8 + size], rng, words)
    return None if tree is None else encode_safetensors(tree, data[8 + size :])
