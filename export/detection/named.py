"""Heads by their names, for tools: `none`, `bank-183`, `svd-61-10`, `online-0.95-10+bank-183`.

A name is the kind of a memory and its numbers, several memories joined by `+`:

    none                     no memory
    bank-N, window-S         attention to the newest N region rows, or to those of S seconds; two layers
    svd-S-K, rsvd-S-K        MeMSVD offline over S seconds with K components, exact or randomised
    online-F-K               MeMSVD online, forgetting factor F a clip, K components
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from engines.errors import LvmError
from export.detection.bank import BankAttention, newest, window
from export.detection.head import DetectionHead, MemoryPart
from export.detection.memsvd import FirstOf, ForgettingSVD, WindowSVD

_MOST = 32
"""Components of an exact SVD that is computed once for all smaller numbers of them."""


@lru_cache(maxsize=1)
def _whole_svd(seconds: float) -> WindowSVD:
    """Nothing of it is learned, so heads of several seeds and numbers of components may share it."""
    return WindowSVD(_MOST, seconds)


def _svd(width: int, seconds: float, components: float) -> MemoryPart:
    return FirstOf(_whole_svd(seconds), int(components))


@lru_cache(maxsize=1)
def _randomised(width: int, seconds: float, components: float) -> MemoryPart:
    return WindowSVD(int(components), seconds, randomised=True)


@lru_cache(maxsize=1)
def _online(width: int, forgetting: float, components: float) -> MemoryPart:
    return ForgettingSVD(int(components), forgetting)


KINDS: dict[str, Callable[..., MemoryPart]] = {
    "bank": lambda width, count: BankAttention(width, newest(int(count))),
    "window": lambda width, seconds: BankAttention(width, window(seconds)),
    "svd": _svd,
    "rsvd": _randomised,
    "online": _online,
}
"""A memory by the width of a region and the numbers of its name."""


def parts_of(name: str, width: int) -> list[MemoryPart]:
    """The memories of the head called `name`; LvmError where there is none."""
    return [] if name == "none" else [_part(one, width) for one in name.split("+")]


def head_of(name: str, width: int, activities: int) -> DetectionHead:
    """The head called `name`, with new weights from torch's generator."""
    return DetectionHead(width, activities, parts_of(name, width))


def _part(name: str, width: int) -> MemoryPart:
    kind, *numbers = name.split("-")
    try:
        return KINDS[kind](width, *(float(number) for number in numbers))
    except (KeyError, ValueError, TypeError):
        known = ", ".join(["none", *KINDS])
        raise LvmError(
            f"a memory must be one of {known} with its numbers, got {name!r}; try bank-183 or svd-61-10"
        ) from None
