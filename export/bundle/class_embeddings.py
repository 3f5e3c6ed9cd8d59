"""Embed class descriptions as vectors without a text encoder.

Letters: n texts, W width.

Each word has a fixed random direction that only its letters decide, and a text is the sum of its words: texts
that share a verb or a noun start close to one another, in every run and on every machine. Words that all
texts share, as "a" and "an", say nothing and are left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engines.manifest import ActivityClass
from export.networks.reader import Reader

_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    ("a", "an", "the", "of", "in", "into", "on", "under", "up", "out", "back", "from", "to")
)


def embed_descriptions(texts: Sequence[str], width: int) -> NDArray[np.float32]:
    """Embed texts (n) as rows (n, W) of length 1; 0 where a text has no word."""
    rows = np.zeros((len(texts), width))
    for row, text in zip(rows, texts, strict=True):
        words = _WORD.findall(text.casefold())
        for word in [word for word in words if word not in _STOP_WORDS] or words:
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
            direction: NDArray[np.float64] = np.random.default_rng(seed).normal(size=width)
            direction /= np.linalg.norm(direction)
            row += direction
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def describe_classes(reader: Reader, classes: Sequence[ActivityClass]) -> None:
    """Fill the reader's description table, if its context has one, from the class descriptions."""
    queues = reader.queues
    if queues is None or queues.text is None:
        return
    table = embed_descriptions([activity.doing for activity in classes], queues.text.table.shape[1])
    # Of the size that a LayerNorm would give it: every entry about 1.
    queues.text.table.copy_(torch.from_numpy(table) * table.shape[1] ** 0.5)
