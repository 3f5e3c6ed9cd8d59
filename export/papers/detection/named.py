"""Make heads by name, for tools: `none`, `bank-183`, `svd-61-10`, `online-0.9-10+bank-183`.

A name is the kind of a memory and its numbers, several memories joined by `+`:

    none                     no memory
    bank-N, window-S         attention to the newest N region rows, or to those of S seconds; two layers
    svd-S-K, rsvd-S-K        MeMSVD offline over S seconds with K components, exact or randomised
    online-F-K               MeMSVD online, forgetting factor F a clip, K components
    gsvd-S-K, gonline-F-K    as svd and online, with a learned gate a channel
    psvd-S-K, ponline-F-K    their bases, asked by learned directions what the past explains
    text-L-S, region-L-S     TinyMem: L entries, every S-th clip; text memory or region memory alone
    text-L-S-T               text memory of T slots an entry
    captions-L-S             text memory of a captioner's words (captions.jsonl of the data folder)
    tokens-L-S-R             region memory of R learned tokens of the whole clip
    tiny-L-S                 TinyMem: text memory, and region memory in the last layer that reads any
    dense-L-S                all tokens of past clips, compressed: MeMViT's memory
    whole-L-S                the same, its compression learned from all entries and not the newest alone
    layers                   the layers of TinyMem without any memory
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from engines.errors import LvmError
from export.papers.detection.bank import BankAttention, make_newest_rows, make_window_rows
from export.papers.detection.head import DetectionHead, MemoryPart
from export.papers.detection.memsvd import (
    ForgettingSVD,
    GatedProjection,
    ProbedProjection,
    TruncatedProjection,
    WindowSVD,
)
from export.papers.detection.tinymem import Source, TinyMem, TinyMemRule

_MAX_NUMBER = 100_000
"""Largest number in a name: rows, seconds, entries."""
_MAX_COMPONENTS = 32
"""Components of an exact SVD that is computed once for all smaller numbers."""


@lru_cache(maxsize=1)
def _make_shared_svd(seconds: float) -> WindowSVD:
    """Make an SVD without learned parts, shared by heads of several seeds and numbers of components."""
    return WindowSVD(_MAX_COMPONENTS, seconds)


def _make_svd(width: int, seconds: float, components: float) -> MemoryPart:
    return TruncatedProjection(_make_shared_svd(seconds), int(components))


@lru_cache(maxsize=1)
def _make_randomised(width: int, seconds: float, components: float) -> MemoryPart:
    return WindowSVD(int(components), seconds, randomised=True)


@lru_cache(maxsize=1)
def _make_online(width: int, forgetting: float, components: float) -> MemoryPart:
    if forgetting > 1:
        raise ValueError("what is older must not count more")
    return ForgettingSVD(int(components), forgetting)


KINDS: dict[str, Callable[..., MemoryPart]] = {
    "bank": lambda width, count: BankAttention(width, make_newest_rows(int(count))),
    "window": lambda width, seconds: BankAttention(width, make_window_rows(seconds)),
    "svd": _make_svd,
    "rsvd": _make_randomised,
    "online": _make_online,
    "gsvd": lambda width, *numbers: GatedProjection(_make_svd(width, *numbers), width),
    "gonline": lambda width, *numbers: GatedProjection(_make_online(width, *numbers), width),
    "psvd": lambda width, *numbers: ProbedProjection(_make_svd(width, *numbers), width),
    "ponline": lambda width, *numbers: ProbedProjection(_make_online(width, *numbers), width),
}
"""A memory by the width of a region and the numbers of its name."""


TINY: dict[str, Callable[..., TinyMemRule]] = {
    "text": lambda length, stride, slots=4: _make_rule("text", length, stride, slots=int(slots)),
    "captions": lambda length, stride: _make_rule("captions", length, stride),
    "region": lambda length, stride: _make_rule("region", length, stride),
    "tokens": lambda length, stride, regions=16: _make_rule("tokens", length, stride, regions=int(regions)),
    "tiny": lambda length, stride, slots=4: TinyMemRule(
        length=int(length), stride=int(stride), slots=int(slots)
    ),
    "dense": lambda length, stride: _make_rule("dense", length, stride),
    "whole": lambda length, stride: _make_rule("dense", length, stride, pipelined=False),
    "layers": lambda: TinyMemRule(sources=(), length=1),
}
"""TinyMem and what it is compared with, by the numbers of its name."""


def _make_rule(source: Source, length: float, stride: float, **more: Any) -> TinyMemRule:
    return TinyMemRule(sources=(source,), length=int(length), stride=int(stride), **more)


@dataclass(frozen=True)
class ClipSize:
    """The size of the clips that a head is asked about."""

    regions: int = 6
    frames: int = 2


DEFAULT_SIZE = ClipSize()


def make_parts(
    name: str, width: int, doing: Sequence[str] = (), size: ClipSize = DEFAULT_SIZE
) -> list[MemoryPart]:
    """Make the memories of the head called `name`. Raises LvmError for an unknown name.

    `doing` describes each activity, which text memory holds; without it, the activities' numbers are used.
    """
    return [] if name == "none" else [_make_part(part, width, doing, size) for part in name.split("+")]


def make_head(
    name: str, width: int, activities: int, doing: Sequence[str] | None = None, size: ClipSize = DEFAULT_SIZE
) -> DetectionHead:
    """Make the head called `name`, with new weights from torch's generator. Raises LvmError for an unknown
    name."""
    descriptions = doing or [f"activity {number}" for number in range(activities)]
    return DetectionHead(width, activities, make_parts(name, width, descriptions, size))


def _make_part(name: str, width: int, doing: Sequence[str], size: ClipSize) -> MemoryPart:
    kind, *words = name.split("-")
    try:
        numbers = [float(word) for word in words]
        if not all(0 < number <= _MAX_NUMBER for number in numbers):
            raise ValueError
        if kind in TINY:
            rule = TINY[kind](*numbers)
            return TinyMem(width, doing, rule, regions=size.regions, frames=size.frames)
        return KINDS[kind](width, *numbers)
    except (KeyError, ValueError, TypeError):
        known = ", ".join(["none", *KINDS, *TINY])
        raise LvmError(
            f"a memory must be one of {known} with its numbers, got {name!r}; try bank-183 or svd-61-10"
        ) from None
