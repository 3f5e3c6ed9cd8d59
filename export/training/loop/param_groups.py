"""Which parameters learn at which share of the learning rate."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

from torch import nn

from engines.errors import LvmError
from export.networks.s4 import DYNAMICS

OUTLINE_SCALE = 3.0
"""Outlines are a regression of their own: 1,500 steps of 512 single tokens leave a mean IoU of .56 instead of
.54 in unseen rooms (eight, one seed)."""


def keep_others(module: nn.Module, patterns: Sequence[str]) -> None:
    """Only parameters that fit one of `patterns` learn. Raises LvmError for a pattern that fits none."""
    named = dict(module.named_parameters())
    for pattern in patterns:
        if not fnmatch.filter(named, pattern):
            raise LvmError(
                f"lvm.learns: no parameter is called {pattern}; they are called like {next(iter(named))}"
            )
    for name, parameter in named.items():
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)


def reading(network: nn.Module) -> list[dict[str, Any]]:
    """Groups of a reader or TubeDETR."""
    named = list(network.named_parameters())
    return [
        {"params": [one for name, one in named if ".outline." not in name], "scale": 1.0},
        {"params": [one for name, one in named if ".outline." in name], "scale": OUTLINE_SCALE},
    ]


def choosing(sampler: nn.Module, scale: float) -> list[dict[str, Any]]:
    """Groups of a sampler whose learning rate is `scale` of the reader's."""
    named = [(name.rpartition(".")[2], one) for name, one in sampler.named_parameters()]
    dynamics = [one for name, one in named if name in DYNAMICS]
    groups: list[dict[str, Any]] = [
        {"params": [one for name, one in named if name not in DYNAMICS], "scale": scale}
    ]
    if dynamics:  # time constants that decay become others, not simpler ones
        groups.append({"params": dynamics, "scale": scale, "weight_decay": 0.0})
    return groups
